"""Build the docs site: `python -m scripts.docs_site --out site` (`make docs`).

The sources are written first, then zensical makes HTML of them and stops at any link or heading that does not exist.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.docs_site.sources import ROOT, write_sources


def build(out: Path, work: Path) -> None:
    """Build the site into `out`, by way of sources in `work`; raises subprocess.CalledProcessError if zensical finds anything wrong."""
    config = write_sources(work)
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)], check=True)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(work / "site", out)


def main() -> int:
    """Build the site; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.docs_site", description="Build the docs site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="where to put the site (default: site)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "docs", help="where to put its sources (default: build/docs)")
    arguments = parser.parse_args()
    try:
        build(arguments.out.resolve(), arguments.work.resolve())
    except subprocess.CalledProcessError as error:
        return error.returncode
    print(f"{arguments.out}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
