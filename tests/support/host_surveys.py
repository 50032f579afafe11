"""Two hosts of a cluster for tests of what a job needs on each."""

from thunder.cluster.inventory.cluster_file import Cluster, Host

FOUR = Host(name="Mac4", ssh="mac4", ips=["10.0.5.1"], folder="~/tt", memory_gb=64, runs="out")
FIVE = Host(name="Mac5", ssh="mac5", ips=["10.0.5.2"], folder="~/tt", memory_gb=64)
CLUSTER = Cluster(name="desk", hosts=[FOUR, FIVE], env={"HF_HOME": "/models"})
HOSTS = {host.name: host for host in CLUSTER.hosts}
