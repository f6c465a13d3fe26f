"""Whether an adapter, or a merged checkpoint, is fit to ship: measured against its base, compared with margins stated beforehand."""
