"""10,000 files of 10 KB, sealed, against the same bytes as one file."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

import transfer


def main(argv: Sequence[str]) -> int:
    """
    Measure interleaved pairs; the disks are flushed before each transfer.

    Nothing is removed before the end: ext4 gives no inode out again for 5 s, and looks at each of
    10,000 such ones for every new file, which costs the server twice what all else does.
    """
    parser = argparse.ArgumentParser(prog="scripts/bench files")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    many: list[float] = []
    one: list[float] = []
    with transfer.workplace() as place, transfer.server(place / "server") as server:
        for pair in range(options.pairs):
            folder = transfer.work_folder(place / f"many{pair}")
            for index in range(options.count):
                path = folder.outputs / "files" / f"{index // 1000:03}"
                if index % 1000 == 0:
                    path.mkdir()
                (path / f"{index:06}.dat").write_bytes(os.urandom(options.size))
            single = transfer.work_folder(place / f"one{pair}")
            transfer.make_file(single.outputs / "files" / "one.dat", options.count * options.size)
            for work, took in ((folder, many), (single, one)):
                claimed = transfer.claim(server)
                transfer.flush_disks()
                seconds, delivery = transfer.deliver(server.url, claimed, work)
                took.append(seconds)
                assert delivery.bytes == options.count * options.size
            if not options.json:
                print(
                    f"pair {pair + 1}: {options.count / many[-1]:7.0f} files/s   "
                    f"as one file {one[-1]:.2f} s   ratio {one[-1] / many[-1]:.2f}",
                    flush=True,
                )
    rate = options.count / transfer.median(many)
    ratio = transfer.median([single_s / many_s for single_s, many_s in zip(one, many, strict=True)])
    if options.json:
        print(json.dumps({"files_per_s": rate, "many_s": many, "one_s": one, "ratio": ratio}))
    else:
        print(
            f"{options.count} files of {options.size} bytes, sealed: median {rate:.0f} files/s "
            f"(at least 2,500, aim 5,000), {ratio:.2f} x the speed of one file"
        )
    return 0 if rate >= 2500 else 1
