import shutil
import subprocess

import pytest

from gippo.cli import COMMANDS, main
from gippo.commands.completion import script
from gippo.configuration.compose import choices

if shutil.which("bash") is None:
    pytest.skip("no bash", allow_module_level=True)

ASK = """
COMP_LINE="$1"; COMP_POINT=${#1}
COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
[[ "$1" == *" " ]] && COMP_CWORD=$((COMP_CWORD + 1))
_gippo
printf '%s|' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "gippo.bash"
    path.write_text(script())

    def ask(line):
        command = ["bash", "-c", f"source {path}\n{ASK}", "ask", line]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [word for word in done.stdout.split("|") if word]

    return ask


def test_commands_keys_and_values_are_completed(completed):
    assert completed("gippo ") == sorted(COMMANDS)
    assert completed("gippo ev") == ["evaluate "]
    assert completed("gippo train algo.alpha.alp") == ["algo.alpha.alpha_0="]
    assert completed("gippo train env.subs") == ["env.substeps="]
    assert completed("gippo train env=") == choices("env")
    assert completed("gippo train env=cart") == ["cartpole "]
    assert completed("gippo train algo=ppo experiment=paper/") == ["paper/cartpole "]
    assert completed("gippo play policy=half") == ["half_cheetah "]
    assert completed("gippo evaluate deterministic=") == ["true", "false"]
    assert completed("gippo compile e") == ["env="]
    assert "checkpoint=" not in completed("gippo train ")


def test_what_has_no_words_is_left_to_the_names_of_files(completed):
    assert completed("gippo convert robot.x") == []
    assert completed("gippo train run_dir=ru") == []


def test_another_shell_is_refused_by_name(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script()
    assert main(["completion", "bahs"]) == 2
    assert "did you mean 'bash'?" in capsys.readouterr().err
