"""One file of 1 GiB, runner to server, sealed, against `curl -T` into nginx."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence

import transfer


def main(argv: Sequence[str]) -> int:
    """Measure interleaved pairs; the disks are flushed before each transfer."""
    parser = argparse.ArgumentParser(prog="scripts/bench upload")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    size = options.mib * transfer.MIB
    ours, theirs = [], []
    with transfer.workplace() as place:
        source = place / "source.dat"
        transfer.make_file(source, size)
        with transfer.server(place / "server") as server, transfer.nginx(place / "nginx") as url:
            for pair in range(options.pairs):
                folder = transfer.work_folder(place / f"work{pair}")
                os.link(source, folder.outputs / "files" / "one.dat")
                claimed = transfer.claim(server)
                transfer.flush_disks()
                theirs.append(transfer.curl_put(source, url))
                shutil.rmtree(place / "nginx" / "root")
                (place / "nginx" / "root").mkdir()
                transfer.flush_disks()
                ours.append(transfer.deliver(server.url, claimed, folder)[0])
                shutil.rmtree(server.attempt_folder(claimed.run))
                if not options.json:
                    print(
                        f"pair {pair + 1}: curl {size / theirs[-1] / 1e6:7.0f} MB/s   "
                        f"physicsrunner {size / ours[-1] / 1e6:7.0f} MB/s   "
                        f"ratio {theirs[-1] / ours[-1]:.2f}",
                        flush=True,
                    )
    ratio = transfer.median([curl / own for curl, own in zip(theirs, ours, strict=True)])
    if options.json:
        print(json.dumps({"bytes": size, "curl_s": theirs, "ours_s": ours, "ratio": ratio}))
    else:
        print(f"{options.mib} MiB, sealed: median ratio {ratio:.2f} (at least 0.50, aim 0.80)")
    return 0 if ratio >= 0.5 else 1
