import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.cluster.health import finding

WORDS = st.text(
    st.sampled_from("ab ~/$`'\"\\;&|<>(){}*?!#-=\u07dc") | st.characters(categories=["L", "N", "P", "S", "Zs"]),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40)
@given(st.sampled_from(["", "~/", "/", "~", "-"]), WORDS)
def test_a_path_is_one_word_of_a_shell_and_only_a_leading_tilde_means_home(start, rest):
    path = start + rest
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {finding.quote_path(path)}"],
        env={"HOME": "/h", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=10,
    )
    expected = f"/h/{path[2:]}" if path.startswith("~/") and path[2:] else path
    assert done.stdout.decode() == f"{expected}\n" and not done.stderr
