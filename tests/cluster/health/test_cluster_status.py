"""The picture of a cluster: links that answer, that are cut, and hosts that are not reached."""

from dataclasses import replace

from host_readings import CLUSTER, FIVE, FOUR, link, reading

from thunder.cluster.health import cluster_status, host_report
from thunder.cluster.health.host_report import (
    ConnectionFailure,
    Ping,
)


def test_the_picture_is_made_from_the_report():
    well = cluster_status.status_report(CLUSTER, [reading(FOUR, FIVE), reading(FIVE, FOUR)], 1.0)
    assert well["healthy"]
    assert cluster_status.draw_cluster(well)[:3] == [
        "[Mac4 10.0.5.1] ========= [Mac5 10.0.5.2]",
        "",
        "  Mac4 -> Mac5    0.31 ms  by bridge0, MTU 1500  to 10.0.5.2",
    ]
    down = replace(link(FOUR, FIVE), ping=Ping(True, 3, 0, None, None, None))
    cut = cluster_status.status_report(CLUSTER, [reading(FOUR, FIVE, links=[down]), reading(FIVE, FOUR)], 1.0)
    assert not cut["healthy"]
    assert cluster_status.draw_cluster(cut)[0] == "[Mac4 10.0.5.1] ==  X  == [Mac5 10.0.5.2]"
    off = cluster_status.status_report(
        CLUSTER, [host_report.HostReport("Mac4", ConnectionFailure("unreachable", "off")), reading(FIVE, FOUR)], 1.0
    )
    assert cluster_status.draw_cluster(off)[0] == "[Mac4 10.0.5.1] ==  ?  == [Mac5 10.0.5.2]"
    assert "Mac4: not reached" in cluster_status.draw_cluster(off)[-1]
