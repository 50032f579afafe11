import json
from pathlib import Path

import pytest

from thunder.cluster.inventory.cluster_file import Cluster, Host, local_cluster
from thunder.cluster.inventory.rank_plan import environment_notes, format_hostfile, plan_ranks

BLAS = Path("/usr/lib/x/libopenblas.so.0")


def planned(cluster=None, **changes):
    given = {
        "command": ("/venv/bin/python", "-m", "thunder", "rank", "/runs/r"),
        "ports": [20001, 20002],
        "job_id": "a1b2c3",
        "run_folder": Path("/runs/r"),
        "cores": 8,
        "openblas": None,
        "system": "Linux",
        "user_environ": {},
    }
    return plan_ranks(cluster or local_cluster(2), **given | changes)


def local(ranks=2, env=None):
    return Cluster(name="c", hosts=local_cluster(ranks).hosts, env=env or {})


def test_ranks_are_the_hosts_in_order():
    plans = planned()
    assert [(plan.rank, plan.host.name, plan.address) for plan in plans] == [
        (0, "local-0", "127.0.0.1:20001"),
        (1, "local-1", "127.0.0.1:20002"),
    ]
    assert plans[0].argv == ("/venv/bin/python", "-m", "thunder", "rank", "/runs/r")
    assert plans[0].cwd is None


def test_the_environment_says_who_a_rank_is():
    assert planned()[1].env == {
        "MLX_RANK": "1",
        "MLX_HOSTFILE": "/runs/r/hostfile.json",
        "THUNDER_RANK": "1",
        "THUNDER_WORLD_SIZE": "2",
        "THUNDER_JOB_ID": "a1b2c3",
        "PYTHONUNBUFFERED": "1",
        "MLX_METAL_FAST_SYNCH": "0",
        "THUNDER_IS_PRIMARY": "0",
        "THUNDER_BACKEND": "ring",
    }


def test_a_world_of_one_has_no_ring():
    env = planned(local(1), ports=[20001])[0].env
    assert env["THUNDER_WORLD_SIZE"] == "1"
    assert not {"MLX_RANK", "MLX_HOSTFILE"} & set(env)


SYNCH, RELAX = "MLX_METAL_FAST_SYNCH", "AGX_RELAX_CDM_CTXSTORE_TIMEOUT"
TRIM = "MALLOC_TRIM_THRESHOLD_"
PRELOAD, BLAS_THREADS, OMP = "LD_PRELOAD", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"


@pytest.mark.parametrize(
    "system, blas, user, cluster_env, name, value",
    [
        ("Darwin", None, {}, {}, RELAX, "1"),
        ("Darwin", None, {RELAX: "0"}, {}, RELAX, "0"),
        ("Darwin", None, {RELAX: "0"}, {RELAX: "2"}, RELAX, "2"),
        ("Linux", BLAS, {}, {}, RELAX, None),
        ("Darwin", None, {SYNCH: "1"}, {SYNCH: "1"}, SYNCH, "0"),
        ("Linux", BLAS, {}, {}, PRELOAD, str(BLAS)),
        ("Linux", BLAS, {PRELOAD: "/lib/a.so"}, {}, PRELOAD, f"/lib/a.so:{BLAS}"),
        ("Linux", BLAS, {PRELOAD: "/my/libopenblas.so"}, {}, PRELOAD, "/my/libopenblas.so"),
        ("Linux", BLAS, {}, {PRELOAD: "/lib/b.so"}, PRELOAD, "/lib/b.so"),
        ("Linux", None, {}, {}, PRELOAD, None),
        ("Darwin", None, {}, {}, PRELOAD, None),
        ("Linux", BLAS, {}, {}, BLAS_THREADS, "4"),
        ("Linux", BLAS, {}, {}, OMP, "4"),
        ("Linux", BLAS, {BLAS_THREADS: "3", OMP: "2"}, {}, BLAS_THREADS, "3"),
        ("Linux", BLAS, {BLAS_THREADS: "3", OMP: "2"}, {}, OMP, "2"),
        ("Linux", BLAS, {BLAS_THREADS: "3"}, {BLAS_THREADS: "5"}, BLAS_THREADS, "5"),
        ("Linux", None, {}, {}, OMP, None),
        ("Linux", BLAS, {}, {}, TRIM, "1073741824"),
        ("Linux", BLAS, {TRIM: "5"}, {}, TRIM, "5"),
        ("Darwin", None, {}, {}, TRIM, None),
        ("Linux", None, {}, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE", "1"),
        ("Linux", None, {}, {"MLX_RANK": "7"}, "MLX_RANK", "0"),
        ("Linux", None, {}, {"THUNDER_EVENTS_FD": "7"}, "THUNDER_EVENTS_FD", None),
        ("Linux", None, {}, {"PYTHONUNBUFFERED": "0"}, "PYTHONUNBUFFERED", "1"),
    ],
)
def test_tuning(system, blas, user, cluster_env, name, value):
    plans = planned(local(env=cluster_env), system=system, openblas=blas, user_environ=user)
    assert plans[0].env.get(name) == value


@pytest.mark.parametrize("cores, ranks, threads", [(8, 2, "4"), (8, 3, "2"), (2, 2, "1"), (1, 2, "1"), (2, 1, "2")])
def test_ranks_share_the_cores(cores, ranks, threads):
    plans = planned(local(ranks), ports=list(range(20000, 20000 + ranks)), cores=cores, openblas=BLAS)
    assert {plan.env["OPENBLAS_NUM_THREADS"] for plan in plans} == {threads}


def test_what_a_rank_inherits_and_what_it_never_does():
    plan = planned(local(1), ports=[0])[0]
    whole = plan.environment({"PATH": "/bin", "MLX_RANK": "3", "MLX_HOSTFILE": "/old", "THUNDER_LIFELINE_FD": "9"})
    assert whole["PATH"] == "/bin"
    assert not {"MLX_RANK", "MLX_HOSTFILE", "THUNDER_LIFELINE_FD"} & set(whole)


def test_a_host_has_its_own_python_and_folder():
    own = Host(name="a", ips=["127.0.0.1"], python="~/v/bin/python", folder="~/tt")
    plan = planned(Cluster(name="c", hosts=[own]), ports=[20001])[0]
    assert plan.argv[:2] == ("~/v/bin/python", "-m")
    assert plan.cwd == Path("~/tt")


def test_the_rings_file_has_one_address_for_each_cable():
    cluster = Cluster(name="c", hosts=[Host(name=f"h{n}", ips=[f"10.0.0.{n}", f"10.0.1.{n}"]) for n in (1, 2)])
    assert json.loads(format_hostfile(planned(cluster))) == [
        ["10.0.0.1:20001", "10.0.1.1:20001"],
        ["10.0.0.2:20002", "10.0.1.2:20002"],
    ]


def test_a_host_over_ssh_has_its_own_paths_and_tuning():
    hosts = [
        Host(name="Mac4", ssh="mac4", ips=["10.0.0.1"], folder="~/tt", python="~/tt/.venv/bin/python"),
        Host(name="Mac5", ssh="mac5", ips=["10.0.0.2"], folder="~/tt", runs="~/my runs"),
    ]
    plans = planned(Cluster(name="c", hosts=hosts, env={"A": "1"}), openblas=Path("/blas.so"))
    assert [plan.is_remote for plan in plans] == [True, True]
    assert plans[0].argv == ("~/tt/.venv/bin/python", "-m", "thunder", "rank", "~/tt/runs/r")
    assert plans[1].env["MLX_HOSTFILE"] == "~/my runs/r/hostfile.json"
    assert all(plan.env["THUNDER_IS_PRIMARY"] == "1" and plan.env["A"] == "1" for plan in plans)
    assert not any("LD_PRELOAD" in plan.env for plan in plans), "that is the agent's to find on its own host"


def test_the_first_rank_of_each_host_keeps_checkpoints():
    here = [Host(name=f"here-{n}", ips=["127.0.0.1"]) for n in range(2)]
    there = [Host(name=f"there-{n}", ssh="mac5", ips=[f"10.0.0.{n + 1}"]) for n in range(2)]
    plans = planned(Cluster(name="c", hosts=here + there), ports=[1, 2, 3, 4])
    primary = [plan.env["THUNDER_IS_PRIMARY"] for plan in plans]
    assert primary == ["1", "0", "1", "0"]


def test_jaccl_gets_its_devices_and_coordinator():
    hosts = [
        Host(name="Mac4", ssh="mac4", ips=["10.0.0.1"], rdma=[None, "rdma_en5"]),
        Host(name="Mac5", ssh="mac5", ips=["10.0.0.2"], rdma=["rdma_en5", None]),
    ]
    plans = planned(Cluster(name="c", hosts=hosts, backend="jaccl"))
    assert json.loads(format_hostfile(plans)) == [[None, "rdma_en5"], ["rdma_en5", None]]
    for plan in plans:
        assert plan.env["MLX_JACCL_COORDINATOR"] == "10.0.0.1:20001" and plan.env["THUNDER_BACKEND"] == "jaccl"
        assert plan.env["MLX_IBV_DEVICES"] == f"{plan.run_folder}/hostfile.json" and "MLX_HOSTFILE" not in plan.env


@pytest.mark.parametrize(
    "system, blas, cores, user, cluster_env, notes",
    [
        ("Linux", BLAS, 2, {}, {}, ["OpenBLAS preloaded, 1 thread a rank"]),
        ("Linux", BLAS, 8, {}, {}, ["OpenBLAS preloaded, 4 threads a rank"]),
        ("Linux", BLAS, 8, {BLAS_THREADS: "3"}, {}, ["OpenBLAS preloaded, 3 threads a rank"]),
        ("Darwin", None, 8, {}, {}, []),
        ("Darwin", None, 8, {}, {"A": "1", SYNCH: "0"}, []),
        (
            "Darwin",
            None,
            8,
            {},
            {SYNCH: "1"},
            [f"{SYNCH}=1 of the cluster file is ignored: the launcher sets this variable"],
        ),
    ],
)
def test_notes_for_the_plans_table(system, blas, cores, user, cluster_env, notes):
    said = environment_notes(
        system=system, openblas=blas, cores=cores, ranks=2, user_environ=user, cluster_env=cluster_env
    )
    assert list(said) == notes


def test_a_missing_openblas_is_said_with_its_price():
    (note,) = environment_notes(system="Linux", openblas=None, cores=2, ranks=2)
    assert note.startswith("OpenBLAS not found: training is 10-50 times slower; apt-get install libopenblas0-pthread")
