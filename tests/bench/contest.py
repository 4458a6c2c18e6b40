"""One case in one precision: Vestige and PyTorch's variants, checked, picked, then run in turn."""
import math
import statistics
import time


# Threads that have worked go on spinning for some milliseconds, on a core that the other side needs.
SETTLE = 0.03


def difference(a, b, allowed):
    """Why two lists of checksums differ by more than is allowed, or None."""
    if len(a) != len(b):
        return f"results differ in number: {len(a)} and {len(b)}"
    for i, (x, y) in enumerate(zip(a, b)):
        size = math.sqrt(sum(v * v for v in y))
        off = math.sqrt(sum((u - v) ** 2 for u, v in zip(x, y))) / (size or 1)
        limit = allowed[min(i, len(allowed) - 1)]
        if not off <= limit:
            return f"results differ: number {i + 1} by {off:.1e}, allowed are {limit:.0e}"
    return None


class Contest:
    """A variant of PyTorch is named by its layout, mode (eager or compile) and malloc."""

    def __init__(self, case, precision, ours, theirs, repeats):
        self.case, self.precision, self.repeats = case, precision, repeats
        self.ours, self.theirs = ours, theirs  # workers; theirs by malloc
        self.answer = None  # of our check
        self.seconds = []   # of our runs
        self.runs = {}      # variant -> seconds of its runs: the first one picks
        self.refused = {}   # variant -> why
        self.bytes = {}     # variant -> peak
        self.built = {}     # malloc -> the variant that its process has at hand
        self.skipped = None
        self.at_hand = False  # ours

    def ask(self, worker, left, do, **more):
        case = self.case if self.case["kind"] == "start_up" else self.case["name"]
        return worker.ask(left, do=do, case=case, precision=self.precision, **more)

    def open(self, left):
        """Builds our side and runs it once: false, with `skipped` set, where it cannot."""
        self.answer = self.ask(self.ours, left, "check")
        self.at_hand = "checksum" in self.answer
        if not self.at_hand:
            self.skipped = self.answer.get("skip") or "Vestige fails: " + self.answer["error"]
        return self.at_hand

    def release(self, malloc):
        """Frees what PyTorch's process holds; with malloc kept only its end gives memory back."""
        self.built.pop(malloc, None)
        if self.case.get("alone"):
            self.theirs[malloc].stop()
        else:
            self.theirs[malloc].ask(60, do="drop")

    def close(self):
        if self.case.get("alone"):
            self.ours.stop()  # what it has cached, PyTorch's next process may need
        else:
            self.ours.ask(60, do="drop")
        self.at_hand = False

    def failed(self):
        """Whether a side's results are wrong or ours cannot run: no case for a table."""
        return (self.skipped or "").startswith("Vestige fails") or any(
            why.startswith("results differ") for why in self.refused.values())

    def best(self, malloc):
        """PyTorch's fastest variant with one malloc, of those that were repeated, or None."""
        mine = [v for v in self.runs if v.endswith(malloc) and len(self.runs[v]) > 1]
        return min(mine, key=self.median, default=None)

    def median(self, variant):
        return statistics.median(self.runs[variant])

    def challenge(self, mode, malloc, end, refusal=None):
        """Tries a mode's variants until `end`, eager's better layout first. `refusal` is why
        PyTorch refused this mode before."""
        layouts = ["contiguous", "channels_last"] if self.case.get("layouts") else ["contiguous"]
        layouts.sort(key=lambda x: self.runs.get(f"{x} eager {malloc}", [math.inf])[0])
        for layout in layouts:
            variant, left = f"{layout} {mode} {malloc}", end - time.monotonic()
            why = refusal or (self.build(variant, left) if left > 0 else "no time was left")
            if not why:
                answer = self.ask(self.theirs[malloc], end - time.monotonic(), "time", repeats=1)
                self.runs[variant] = answer.get("seconds")
                why = answer.get("error")
            self.refused.pop(variant, None)  # of an earlier turn
            if why:
                self.refused[variant] = why
                self.runs.pop(variant, None)

    def build(self, variant, left):
        """Builds a variant and compares its results with ours; why it cannot be run, or None."""
        layout, mode, malloc = variant.split()
        answer = self.ask(self.theirs[malloc], left, "check", layout=layout, mode=mode)
        self.built[malloc] = variant if "checksum" in answer else None
        if "error" in answer:
            return answer["error"]
        return difference(answer["checksum"], self.answer["checksum"],
                          self.case["tolerance"][self.precision])

    def duel(self, mode, malloc, goal, end):
        """Runs ours and the best of a mode's variants in turn, unless another mode was faster: more
        often than needed until `goal`, not at all if that takes longer than `end`."""
        mine = [v for v in self.runs if v.endswith(f" {mode} {malloc}")]
        best = min(mine, key=lambda v: self.runs[v][0], default=None)
        before, worker = self.best(malloc), self.theirs[malloc]
        if not best or before and self.runs[best][0] >= self.median(before):
            return
        why = None
        if not self.at_hand and not self.open(end - time.monotonic()):
            return
        if self.built.get(malloc) != best:
            why = self.build(best, end - time.monotonic())
        if not why and self.case.get("memory", True):
            self.bytes[best] = self.ask(worker, end - time.monotonic(), "bytes").get("bytes")
        each = sum(max(seconds[0] + SETTLE, 0.06) for seconds in (
            self.runs[best], self.ask(self.ours, 60, "time", repeats=1).get("seconds", [60])))
        left = end - time.monotonic()
        if not why and self.repeats * each > left:
            why = f"{self.repeats} runs need {self.repeats * each:.0f} s, {left:.0f} s were left"
        if why:
            self.refused[best] = why
            del self.runs[best]
            return
        wanted = int((goal - time.monotonic()) / each)
        for _ in range(min(max(self.repeats, wanted), 2 * self.repeats)):
            for worker, seconds in ((self.ours, self.seconds), (worker, self.runs[best])):
                time.sleep(SETTLE)
                seconds += self.ask(worker, 60 + each * 10, "time", repeats=1).get("seconds", [])

    def row(self, threads, peaks):
        """The case as it stands in bench.json."""
        s, flops = statistics.median(self.seconds), self.answer["flops"]
        best = {malloc: self.best(malloc) for malloc in ("default", "kept")}
        torch = {v: self.median(v) for v in self.runs}

        def ratio(malloc):
            return torch[best[malloc]] / s if best[malloc] else None
        small = self.case["job"] == "small"
        return {"case": self.case["name"], "precision": self.precision, "threads": threads,
                "seconds": s, "torch_seconds": torch, "ratio": ratio("default"),
                "ratio_kept": ratio("kept"), "gflops": None if small else flops / s * 1e-9,
                "peak_share": None if small else self.share(s, flops, peaks),
                "bytes": self.answer["bytes"],
                "torch_bytes": self.bytes.get(best["default"]),
                "torch_best": best["default"], "torch_best_kept": best["kept"],
                "refused": self.refused, "repeats": len(self.seconds),
                "job": self.case["job"], "group": self.case["group"]}

    def share(self, seconds, flops, peaks):
        """The share of the machine's peak that bounds the case, or None where it has none."""
        work, peak = flops, peaks.get(self.precision)
        if "traffic" in self.case:
            work, peak = self.case["traffic"], peaks["bandwidth"]
            work /= 2 if self.precision == "bf16" else 1
        return work / seconds * 1e-9 / peak["all"] if peak and work else None
