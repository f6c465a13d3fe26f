"""The report stage, for `ray job submit`: python ray_jobs/report.py STUDY.toml [section.key=value ...] --results SHARED_FOLDER."""

import sys

from kp.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
