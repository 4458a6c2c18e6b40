"""What the bench prints and writes of its rows."""
import json
import math
import subprocess

SLOWER = 1.1  # --check lists what takes so many times longer


def number(x, digits, scale=1.0):
    return "" if x is None else f"{x * scale:.{digits}f}"


def line(row):
    """One case of the table."""
    unit = 1e6 if row["job"] == "small" else 1e3
    best, kept = row["torch_best"], row["torch_best_kept"]
    cells = [f"{row['case']:<36.36}", f"{row['precision']:>5}",
             f"{number(row['seconds'], 3, unit):>11}",
             f"{number(row['torch_seconds'].get(best), 3, unit):>11}",
             f"{number(row['ratio'], 2):>7}",
             f"{number(row['torch_seconds'].get(kept), 3, unit):>11}",
             f"{number(row['ratio_kept'], 2):>7}",
             f"{number(row['gflops'] or None, 1):>8}",
             f"{number(row['peak_share'], 0, 100):>6}",
             f"{number(row['bytes'], 1, 1e-6):>8}", f"{number(row['torch_bytes'], 1, 1e-6):>8}",
             " / ".join(dict.fromkeys(v.rsplit(" ", 1)[0] for v in (best, kept) if v))]
    return " ".join(cells)


def head(job):
    unit = "us" if job == "small" else "ms"
    return (f"{job:<36} {'':>5} {'ours ' + unit:>11} {'torch ' + unit:>11} {'ratio':>7}"
            f" {'kept ' + unit:>11} {'ratio':>7} {'GFLOP/s':>8} {'peak %':>6} {'MB':>8}"
            f" {'torch MB':>8} PyTorch's best / with malloc kept")


def machine(peaks, threads):
    """The processor and its measured peaks, a line each."""
    with open("/proc/cpuinfo") as f:
        name = next((x.split(":")[1].strip() for x in f if x.startswith("model name")), "unknown")
    lines = [f"{name}, {threads} threads, level {peaks['level']}; measured, one thread / all:"]
    for key, what, unit in (("f32", "multiply-add f32", "GFLOP/s"), ("bf16", "dot product bf16",
                            "GFLOP/s"), ("bandwidth", "streaming-store triad", "GB/s")):
        peak = peaks[key]
        lines.append(f"  {what}: " + (f"{peak['one']:.1f} / {peak['all']:.1f} {unit}" if peak
                                      else "none"))
    return "\n".join(lines)


def geometric_mean(list_):
    return math.exp(sum(math.log(x) for x in list_) / len(list_))


def groups(rows):
    """By row of goals: geometric mean and least, of the ratio and of the share of the peak."""
    lines = [f"{'by group, default malloc':<56} {'':>5} {'cases':>5} {'mean':>7} {'least':>7}"
             f" {'peak %':>6} {'least':>6} {'memory':>7}"]
    for group, precision in dict.fromkeys((r["group"], r["precision"]) for r in rows):
        mine = [r for r in rows if (r["group"], r["precision"]) == (group, precision)]
        ratios = [r["ratio"] for r in mine if r["ratio"]]
        shares = [r["peak_share"] for r in mine if r["peak_share"]]
        memory = [r["bytes"] / r["torch_bytes"] for r in mine if r["bytes"] and r["torch_bytes"]]
        cells = [f"{group:<56.56}", f"{precision:>5}", f"{len(mine):>5}",
                 f"{number(geometric_mean(ratios) if ratios else None, 2):>7}",
                 f"{number(min(ratios, default=None), 2):>7}",
                 f"{number(geometric_mean(shares) if shares else None, 0, 100):>6}",
                 f"{number(min(shares, default=None), 0, 100):>6}",
                 f"{number(geometric_mean(memory) if memory else None, 2):>7}"]
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines)


def refusals(rows):
    """Variants of PyTorch that did not run, by reason."""
    by_reason = {}
    for row in rows:
        for variant, why in row["refused"].items():
            by_reason.setdefault(why, []).append(
                f"{row['case']} {row['precision']}: {variant}")
    lines = []
    for why, list_ in by_reason.items():
        lines.append(f"refused: {why}")
        lines += ["  " + x for x in list_]
    return "\n".join(lines)


def write(rows, out, vestige):
    """bench.json, and the chart of ratios as bench.svg and bench.png."""
    (out / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    if rows:
        subprocess.run([vestige, "tests/bench/chart.lua", out / "bench.json", out / "bench"],
                       check=True)


def slower(rows, saved):
    """What takes longer than in a saved run, a line each."""
    saved = {(r["case"], r["precision"]): r["seconds"] for r in saved}
    lines = []
    for row in rows:
        before = saved.get((row["case"], row["precision"]))
        if before and row["seconds"] > SLOWER * before:
            lines.append(f"slower: {row['case']} {row['precision']}: {before:.3g} s before,"
                         f" {row['seconds']:.3g} s now, {row['seconds'] / before:.2f} times")
    return lines
