"""Which trials there are, and who trains them: proposals, ASHA, the queue, worker groups, Tune."""
