"""Samples in, one side-by-side table out (Markdown and JSON)."""

import datetime
import json
import pathlib
import re
import statistics
import sys

from comparison import models, offline, served

BUSY = 1.0  # processes that ran in the minute before
BEGIN, END = "<!-- tools/compare_llama_cpp begins -->", "<!-- tools/compare_llama_cpp ends -->"
CEILINGS = {
    "read_gbps": "read GB/s",
    "fma_gflops": "fp32 GFLOP/s",
    "bf16_gflops": "bf16 GFLOP/s",
    "int8_gops": "int8 GOP/s",
    "int8_paired_gops": "int8 in pairs GOP/s",
}


def processor():
    match = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return match.group(1).strip() if match else "unknown"


def new_record(options, tool):
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "machine": {"processor": processor(), "threads": options.threads},
        "peer": tool.version,
        "pelton_flags": options.pelton_flag,
        "rounds": 0,
        "load_before_rounds": [],
        "ceilings": [],
        "weights": {},
        "limits": {},
        "offline": {},
        "served": {},
        "served_seeds": {},
        "failures": [],
    }


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(samples):
    """Median, and the range where there are several."""
    if not samples:
        return "-"
    middle = number(statistics.median(samples))
    return middle if len(samples) < 2 else f"{middle} ({number(min(samples))} to {number(max(samples))})"


def ratio(ours, theirs):
    if not ours or not theirs:
        return "-"
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


def limit_of(record, name, figure):
    """Tokens a second that the ceilings allow, and which of them binds."""
    limits = record["limits"].get(name, {}).get(figure)
    if not limits:
        return None, ""
    peak = statistics.median(limits["peak"])
    if not limits["read"]:
        return peak, "multiply-adds"
    # A step of the batch reads the weights once.
    read = statistics.median(limits["read"])
    return (read, "read") if read < peak else (peak, "multiply-adds")


def share(samples, limit):
    return f"{statistics.median(samples) / limit:.2f}" if samples and limit else "-"


def titles(name):
    decode = models.ALL[name].decode
    return {
        "prefill": f"prefill of {offline.PREFILL}",
        "decode": f"decode, batch 1, {decode} tokens",
        "batch": f"decode, {offline.BATCH} sequences, context {offline.BATCH_PROMPT} to {offline.BATCH_PROMPT + offline.BATCH_DECODE}",
    }


def offline_table(record):
    lines = [
        "| offline, tok/s: median (range) | Pelton | llama.cpp | ratio | limit, by | Pelton of it | llama.cpp of it |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, figures in record["offline"].items():
        for figure, title in titles(name).items():
            if figure not in figures:
                continue
            ours, theirs = (figures[figure].get(engine, []) for engine in ("pelton", "llama.cpp"))
            limit, bound = limit_of(record, name, figure)
            lines.append(
                f"| {models.ALL[name].title}: {title} | {cell(ours)} | {cell(theirs)} | {ratio(ours, theirs)} "
                f"| {f'{number(limit)}, {bound}' if limit else '-'} | {share(ours, limit)} | {share(theirs, limit)} |"
            )
    return lines


def served_table(record):
    streams = sorted({int(n) for figures in record["served"].values() for n in figures})
    head = " | ".join(f"{n} stream{'s' if n > 1 else ''}" for n in streams)
    lines = [f"| whole server | {head} | TTFT p50 at {streams[-1]}, s (less is better) |", "|---|" + "--:|" * (len(streams) + 1)]
    for engine, figures in record["served"].items():
        cells = [cell(figures.get(str(n), {}).get("tok_s", [])) for n in streams]
        last = [ms / 1000 for ms in figures.get(str(streams[-1]), {}).get("ttft_ms", [])]
        lines.append(f"| {engine}, output tok/s | {' | '.join(cells)} | {cell(last)} |")
    peer = record["served"].get("llama.cpp HTTP", {})
    for engine, figures in record["served"].items():
        if engine == "llama.cpp HTTP":
            continue
        at = [(figures.get(str(n), {}), peer.get(str(n), {})) for n in streams]
        cells = [ratio(ours.get("tok_s"), theirs.get("tok_s")) for ours, theirs in at]
        lines.append(f"| {engine}, ratio | {' | '.join(cells)} | {ratio(at[-1][0].get('ttft_ms'), at[-1][1].get('ttft_ms'))} |")
    return lines


def ceilings_line(record):
    parts = [f"{title} {cell([c[key] for c in record['ceilings'] if key in c])}" for key, title in CEILINGS.items()]
    return "; ".join(parts)


def markdown(record):
    machine = record["machine"]
    flags = f", flags {' '.join(record['pelton_flags'])}" if record["pelton_flags"] else ""
    lines = [
        f"{record['date'][:16].replace('T', ' ')}, {machine['processor']}, {machine['threads']} threads; Pelton "
        f"({machine.get('pelton', 'server alone')}{flags}) and llama.cpp {record['peer']} in turn, {record['rounds']} round{'s' if record['rounds'] != 1 else ''}.",
        "",
    ]
    if record["offline"]:
        lines += [f"Ceilings in these runs: {ceilings_line(record)}.", ""]
        lines += offline_table(record)
        lines += [
            "",
            "The limit is what those ceilings allow, the longer of two times: reading all weights once a step and "
            "each sequence's KV cache (as Pelton keeps it), or every product at the best rate for its weights' format, "
            "attention in fp32.",
            "",
        ]
    if record["served"]:
        lines += served_table(record)
        lines += [
            "",
            f"Demo model, {served.TOKENS_OUT} tokens out, distinct prompts of {served.MIN_WORDS} to {served.MAX_WORDS} "
            f"words, the client on the same cores; llama-server with a slot of {served.PEER_CONTEXT} tokens for each stream.",
            "",
        ]
    if record["load_before_rounds"] and record["load_before_rounds"][0] > BUSY:
        lines.append(f"The machine was busy (load {record['load_before_rounds'][0]:.1f} before the first round).")
    lines += [f"Failed: {failure}" for failure in record["failures"]]
    return "\n".join(lines).rstrip() + "\n"


def write_docs(text, root):
    path = root / "docs/performance.md"
    page = path.read_text()
    if BEGIN not in page or END not in page:
        sys.exit(f"compare_llama_cpp: {path} has lost the marks that the table stands between")
    head, rest = page.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    path.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}")


def finish(record, options, root):
    del record["served_seeds"]
    if not record["rounds"] and not record["offline"] and not record["served"]:
        return
    text = markdown(record)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.write_docs:
        write_docs(text, root)
