"""The commands of `kp`. A module holds those of one subject, and adds them to the application when its `add` is called."""
