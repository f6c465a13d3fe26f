"""The whole study, for `ray job submit`: python ray_jobs/study.py STUDY.toml [section.key=value ...] --results SHARED_FOLDER."""

import sys

from kp.cli import main

if __name__ == "__main__":
    main(["study", *sys.argv[1:]])
