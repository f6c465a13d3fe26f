"""One module per kind of measurement of an adapter; kp.study.measurements.registry has their order."""
