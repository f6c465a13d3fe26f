"""Searching and scheduling trials: proposals, ASHA, the trial queue, worker groups, Tune."""
