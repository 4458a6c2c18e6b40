"""The bench: Vestige beside PyTorch and the machine's peak, in turn. Run by run.sh, which says how.

Both sides run a case once and their results are compared; one run each picks PyTorch's best
variant, with the default malloc and with malloc kept, which gives no memory back to the system; the
best ones and ours then run in turn. torch.compile comes last in each job, with a part of its time
and what is left: where a compiled variant is faster, the case is run in turn with it. Of large cases
each variant takes minutes: malloc kept waits until all cases have met the default one, compiled
variants until all others have had their turn.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import report
from contest import Contest
from workers import StartUp, Worker

HERE = pathlib.Path(__file__).parent
VESTIGE = HERE.parent.parent / "build" / "vestige"
JOBS = ["gemm", "conv", "resnet", "gpt2", "small"]
JOB_SECONDS = 14 * 60  # five of them leave time for the table, within 75 minutes
KEPT = ":".join(["glibc.malloc.mmap_threshold=4294967296",
                 "glibc.malloc.trim_threshold=17179869184", "glibc.malloc.top_pad=268435456"])
COMPILING = 0.25  # of the time of the cases, but large ones, that torch.compile can change
MALLOCS = {"default": {}, "kept": {"GLIBC_TUNABLES": KEPT}}


def large(contest):
    return contest.case.get("alone")


class Bench:
    def __init__(self, args, log):
        self.args, self.rows, self.contests, self.peaks = args, [], [], {}
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("OPENBLAS_") and k != "GLIBC_TUNABLES"}
        self.threads = int(env.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        self.env = env | {"OMP_NUM_THREADS": str(self.threads)}
        listed = args.out / "cases.json"
        listed.write_bytes(self.output(VESTIGE, "tests/bench/cases.lua"))
        self.cases = json.loads(listed.read_text())
        self.ours = {"run": Worker([VESTIGE, "tests/bench/ours.lua"], self.env, log),
                     "start_up": StartUp([VESTIGE, "-e"], self.env, "ours")}
        self.theirs = {"run": {}, "start_up": {}}
        for name, extra in MALLOCS.items():
            if name == "kept" and args.default_malloc:
                continue
            e = self.env | extra | {"TORCHINDUCTOR_CACHE_DIR": str(args.cache / "inductor")}
            self.theirs["run"][name] = Worker([sys.executable, HERE / "theirs.py", listed], e, log)
            self.theirs["start_up"][name] = StartUp([sys.executable, "-c"], e, "theirs")
        self.mallocs = list(self.theirs["run"])

    def output(self, *command):
        return subprocess.run(command, env=self.env, check=True, stdout=subprocess.PIPE).stdout

    def measure_peak(self):
        """Keeps the best of what the machine showed during the run."""
        for name, value in json.loads(self.output(self.args.peak, str(self.threads))).items():
            seen = self.peaks.get(name)
            if isinstance(value, dict) and seen:
                value = {k: max(v, seen[k]) for k, v in value.items()}
            self.peaks[name] = value

    def contest(self, case, precision):
        kind = "start_up" if case["kind"] == "start_up" else "run"
        return Contest(case, precision, self.ours[kind], self.theirs[kind],
                       2 if self.args.quick else 5)

    def eager(self, contest, seconds, job_end):
        """The case against PyTorch's eager variants; picking takes at most about `seconds`."""
        end = min(time.monotonic() + seconds, job_end)
        self.measure_peak()
        if contest.open(job_end - time.monotonic()):
            mallocs = self.mallocs[:1] if large(contest) else self.mallocs
            for i, malloc in enumerate(mallocs):
                now = time.monotonic()
                goal = now + (end - now) / (len(mallocs) - i)
                contest.challenge("eager", malloc, min(max(goal, now + 5), job_end))
                contest.duel("eager", malloc, goal, job_end)
                contest.release(malloc)
        contest.close()
        if not contest.seconds:
            why = contest.skipped or "; ".join(dict.fromkeys(contest.refused.values()))
            print(f"{contest.case['name']:<36.36} {contest.precision:>5}  skipped: {why}",
                  flush=True)
        else:
            print(report.line(contest.row(self.threads, self.peaks)), flush=True)

    def later(self, mode, contests, mallocs, end):
        """A mode's variants until `end`, each case its share. What PyTorch refuses in one width or
        layout it refuses in all: it is asked once."""
        refusals = {}
        shares = sum(c.case["share"] for c in contests)
        for contest in contests:
            kind = contest.case["kind"], contest.case.get("what")
            before = {malloc: contest.best(malloc) for malloc in mallocs}
            now = time.monotonic()
            own = now + (end - now) * contest.case["share"] / shares
            shares -= contest.case["share"]
            for malloc in mallocs:
                contest.challenge(mode, malloc, own, refusals.get(kind))
                contest.duel(mode, malloc, 0, own)
                contest.release(malloc)
                for variant, why in contest.refused.items():
                    if " compile " in variant and "double backward" in why:
                        refusals[kind] = why
            contest.close()
            if before != {malloc: contest.best(malloc) for malloc in mallocs}:
                print(report.line(contest.row(self.threads, self.peaks)), flush=True)

    def job(self, job):
        start = time.monotonic()
        end = start + JOB_SECONDS
        # f32 first, and most of the time: where a processor has no bf16, PyTorch's products in it
        # take minutes.
        pairs = [(c, p) for p in ("f32", "bf16") for c in self.cases
                 if p in c["precisions"] and c["job"] == job and self.args.only in c["name"]]
        self.measure_peak()
        scale = {"f32": 1, "bf16": 1 if self.peaks["bf16"] else 0.1}
        shares = sum(c["share"] * scale[p] for c, p in pairs)
        eager_end = end
        if not self.args.no_compile:
            able = sum(c["share"] * scale[p] for c, p in pairs
                       if c.get("compile", True) and not c.get("alone"))
            eager_end -= COMPILING * JOB_SECONDS * able / shares
        contests = []
        print("\n" + report.head(job), flush=True)
        for case, precision in pairs:
            # A share of what is left: what a case does not use, the others get.
            own = case["share"] * scale[precision]
            seconds = (eager_end - time.monotonic()) * own / shares
            shares -= own
            contest = self.contest(case, precision)
            self.eager(contest, seconds, end)
            contests.append(contest)
        self.contests += contests
        again = [c for c in contests if large(c) and not (c.seconds or c.skipped)]
        self.later("eager", again, self.mallocs[:1], eager_end)
        ran = [c for c in contests if c.seconds]
        able = [c for c in ran if c.case.get("compile", True)]
        self.later("eager", [c for c in ran if large(c)], self.mallocs[1:], eager_end)
        if not self.args.no_compile:
            self.later("compile", [c for c in able if not large(c)], self.mallocs, end)
            self.later("compile", [c for c in able if large(c)], self.mallocs, end)
        print(f"{job}: {time.monotonic() - start:.0f} s", flush=True)

    def close(self):
        for worker in [self.ours["run"], *self.theirs["run"].values()]:
            worker.stop()

    def finish(self):
        """Prints and writes everything. The exit status: 1 when a case failed or got slower."""
        saved = json.loads(self.args.check.read_text()) if self.args.check else []
        rows = [c.row(self.threads, self.peaks) for c in self.contests if c.seconds]
        failed = [f"failed: {c.case['name']} {c.precision}" for c in self.contests if c.failed()]
        for text in (report.groups(rows), report.refusals(rows),
                     report.machine(self.peaks, self.threads)):
            if text:
                print("\n" + text)
        report.write(rows, self.args.out, VESTIGE)
        print(f"written: {self.args.out}/bench.json, bench.svg, bench.png")
        bad = failed + report.slower(rows, saved)
        for text in bad:
            print(text)
        return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(prog="run.sh")
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=" ".join(JOBS) + "; default: all")
    parser.add_argument("--check", type=pathlib.Path, metavar="FILE",
                        help="list what got slower than in a saved bench.json")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", default="out/bench",
                        help="where bench.json and the chart go (out/bench)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this text")
    parser.add_argument("--quick", action="store_true", help="two runs each, without torch.compile")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--default-malloc", action="store_true",
                        help="PyTorch with the default malloc alone: half the time")
    parser.add_argument("--peak", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for job in args.jobs:
        if job not in JOBS:
            parser.error(f"no job {job!r}, the jobs are {' '.join(JOBS)}")
    args.no_compile |= args.quick
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "errors.log", "wb") as log:
        bench = Bench(args, log)
        try:
            for job in args.jobs or JOBS:
                bench.job(job)
        finally:
            bench.close()
        return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
