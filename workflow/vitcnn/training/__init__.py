"""Training one run: the loop, the device it runs on, the files it leaves."""
