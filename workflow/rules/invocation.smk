# What an invocation checks before its first job, and what it tells the user.


PROGRESS = []  # the line that is shown, if any


def on_graph(jobs, is_running, takes_lock):
    """Check the runs that are asked for; before a real run, also take the folder and what it needs."""
    runs = [run_of(job.wildcards) for job in jobs if "train_size" in job.wildcards.keys()]
    try:
        plan.refuse_oversized(STUDY, runs, Path("resources"))
    except StudyError as error:
        raise WorkflowError(str(error)) from None
    if UNSCORABLE and any("results/predictions.md" in job.output for job in jobs):
        raise WorkflowError(UNSCORABLE)
    if is_running:
        write_json(Path(ASKED_CONFIG), STUDY)
    writes = [job for job in jobs if "partial/" not in job.output.provenance]
    if not is_running or not writes:  # partial, audit, status, seal: beside a study that runs here
        return
    refuse_absent_device()
    if takes_lock:
        atexit.register(claim_folder().release)
    if workflow.local_exec:
        vitcnn_hooks.limit_resource(workflow, "gpu", GPU_JOBS)
    write_json(RESOLVED_CONFIG, STUDY)
    sizes = {
        dataset: plan.largest_sizes(STUDY, runs, dataset) for dataset in plan.datasets_of(runs)
    }
    write_json(Path(ASKED_SIZES), sizes)


def on_verdicts(verdicts):
    """Note for the report what is out of date."""
    for verdict in verdicts.values():
        if verdict.is_stale and verdict.record and verdict.record["outputs"]:
            config["stale"][next(iter(verdict.record["outputs"]))] = "; ".join(verdict.reasons)


def claim_folder():
    """Return this invocation's lock of the folder, so that only one works in it at a time.

    The kernel frees it when a process is killed, and Snakemake's own locks are then stale. Jobs that
    outlive their Snakemake are waited for: a plan made before they end would repeat their work.
    """
    lock = hold(WORKING)
    if lock is None:
        raise WorkflowError(
            f"{holder(WORKING)} is working in this folder; wait until it ends, or stop it"
        )
    # Not by rglob: before Python 3.12 it fails where a folder goes while it looks.
    results = [
        Path(folder, name)
        for folder, _, names in os.walk("results", followlinks=True)
        for name in names
        if name.endswith(".lock")
    ]
    for path in [*Path("resources").glob("*/provenance/*.lock"), *results]:
        held = hold(path)
        if not held:
            logger.info(
                f"{holder(path)} is still working in {path.parent}; waiting for it to finish"
            )
            held = hold(path, wait=True)
        path.unlink(missing_ok=True)
        held.release()
    vitcnn_hooks.free_locks(workflow)
    return lock


def refuse_absent_device():
    """Stop before the first job if no training job can get its device."""
    device = STUDY["device"]
    if workflow.local_exec and device in ("cuda", "mps") and not has_gpu(device):
        raise WorkflowError(f"device: {device} is not available on this machine. Set device: auto")


def warn_of_other_versions():
    """Warn if installed packages have other versions than the lock file."""
    if not WITH_CONDA:
        for difference in not_as_locked():
            logger.warning(f"{difference}; results will say so")


def runs_to_train():
    """Return the runs that this invocation certainly trains, and those it trains if their data change."""
    verdicts = vitcnn_hooks.verdicts_of(workflow)
    certain, possible = [], []
    for job in vitcnn_hooks.planned_jobs(workflow):
        if hasattr(job.output, "weights"):
            is_certain = verdicts[job.output.provenance].reasons
            (certain if is_certain else possible).append(run_of(job.wildcards))
    return certain, possible


def say_how_long():
    """Log before the first job how many runs there are to train, and about how long that takes here."""
    certain, possible = runs_to_train()
    if possible:
        logger.info(f"\n{len(possible)} run(s) are trained again only if their data change.")
    corrupting = [
        j for j in vitcnn_hooks.planned_jobs(workflow) if "corrupt_run.py" in j.params.command
    ]
    if corrupting:
        logger.info(
            f"\n{len(corrupting)} run(s) are measured on corrupted images, each for as long as 55 evaluations."
        )
    names = [run.name for run in certain]
    if not names:
        return
    if not workflow.local_exec:
        logger.info(f"\nTo be trained: {len(names)} run(s), on the cluster.")
        return
    # In another process, so that torch is not imported here and a failure stops nothing.
    at_a_time = max(1, workflow.cores // STUDY["threads"])
    at_a_time = min(at_a_time, workflow.nodes or at_a_time)  # --jobs
    if has_gpu(STUDY["device"]):
        # Jobs that share a GPU take turns.
        at_a_time = min(at_a_time, GPU_JOBS // STUDY["jobs_per_gpu"])
    estimate = [
        *(sys.executable, str(WORKFLOW / "scripts/estimate_time.py")),
        *("--config", str(RESOLVED_CONFIG), "--jobs", str(at_a_time), "--runs", "-"),
    ]
    said = subprocess.run(estimate, input="\n".join(names), capture_output=True, text=True)
    why_not = said.stderr.strip().splitlines()[-1:]
    logger.info(f"\n{said.stdout or ' '.join([f'To be trained: {len(names)} run(s).', *why_not])}")


def show_progress():
    """Follow the runs that this invocation trains: on a terminal in one line, nothing with --quiet."""
    runs = [run for some in runs_to_train() for run in some]
    is_quiet = {Quietness.PROGRESS, Quietness.ALL} & set(workflow.output_settings.quiet or ())
    if not runs:
        return
    write_json(TRAINING, [run.name for run in runs])  # for status
    if not is_quiet:
        followed = Followed(STUDY, runs, TRAINING.stat().st_mtime)
        PROGRESS.append(Progress(followed, logger, sys.stderr))
        atexit.register(hide_progress)


def hide_progress():
    """End it, however this invocation ends."""
    while PROGRESS:
        PROGRESS.pop().stop()


def say_where_to_look():
    """End a run by naming what it was asked for and has."""
    outputs = [path for job in vitcnn_hooks.asked_jobs(workflow) for path in job.output]
    shown = sorted(path for path in outputs if path.endswith((".html", ".svg")))
    made = [
        f"  {Path(path).absolute()}" for path in shown if not path.startswith("results/models/")
    ]
    if made:
        logger.info("\n".join(["\nResults are in:", *made]))


def say_what_is_left():
    """End a failed run by naming the way to what did succeed, if a run did."""
    made = any(Path("results/runs").glob("*/*/*/*/*/metrics.json"))
    if made and vitcnn_hooks.asked_jobs(workflow):
        logger.info(
            "\n`snakemake partial`, with the options of this command, shows what the finished runs give, with the gaps marked."
        )


vitcnn_hooks.install(STUDY["accept_environment"], on_graph, on_verdicts)
