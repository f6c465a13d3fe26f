"""The facts stage, for `ray job submit`: python ray_jobs/facts.py STUDY.toml [section.key=value ...] --results SHARED_FOLDER."""

import sys

from kp.cli import main

if __name__ == "__main__":
    main(["facts", *sys.argv[1:]])
