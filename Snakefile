# The graph of trainings and pages. `companion.build.batch` checks what is asked for, writes
# the plan that is read here, and starts Snakemake; see `make book` and `make batch`.
#
# A training that several pages share is one job. What a job makes is written aside and moved into
# place by the program that it calls, and the marker that Snakemake sees comes after that. So a
# killed batch leaves nothing half done, and goes on with what is missing.

import json
import shlex
from pathlib import Path

# In the folder that Snakemake works in. An argument with its path would be read as YAML.
PLAN = json.loads(Path("plan.json").read_text(encoding="utf-8"))
ROOT = shlex.quote(PLAN["root"])


def needs(entries, what):
    """A resource of each job, for executors that reserve it: mem_mb, runtime (minutes) or gpu."""
    return lambda wildcards: PLAN[entries][wildcards[0]]["resources"][what]


rule all:
    input:
        [f"done/page-{name}" for name in PLAN["pages"]],


rule train:
    output:
        touch("done/run-{run}"),
    log:
        "logs/run-{run}.log",
    params:
        command=lambda wildcards: PLAN["runs"][wildcards.run]["command"],
        label=lambda wildcards: PLAN["runs"][wildcards.run]["label"],
    threads: 1
    priority: 1
    resources:
        mem_mb=needs("runs", "mem_mb"),
        runtime=needs("runs", "runtime"),
        gpu=needs("runs", "gpu"),
    message:
        "[train] {params.label}"
    shell:
        "(cd {ROOT} && {params.command}) > {log} 2>&1 "
        "|| {{ status=$?; echo \"exit status $status\" >> {log}; exit $status; }}"


rule page:
    input:
        lambda wildcards: [
            ancient(f"done/run-{run}") for run in PLAN["pages"][wildcards.page]["runs"]
        ],
        lambda wildcards: [
            ancient(f"done/page-{page}") for page in PLAN["pages"][wildcards.page]["pages"]
        ],
    output:
        touch("done/page-{page}"),
    log:
        "logs/page-{page}.log",
    params:
        command=lambda wildcards: PLAN["pages"][wildcards.page]["command"],
        label=lambda wildcards: PLAN["pages"][wildcards.page]["label"],
    threads: 1
    resources:
        mem_mb=needs("pages", "mem_mb"),
        runtime=needs("pages", "runtime"),
        gpu=needs("pages", "gpu"),
    message:
        "[page] {params.label}"
    shell:
        "(cd {ROOT} && {params.command}) > {log} 2>&1 "
        "|| {{ status=$?; echo \"exit status $status\" >> {log}; exit $status; }}"
