import re
import shutil
import subprocess

import pytest

from gippo.cli import COMMANDS, main
from gippo.commands.completion import script
from gippo.commands.view import VIEWERS
from gippo.configuration.compose import choices
from gippo.configuration.derived import configure_training
from gippo.configuration.run_config import LOGGERS

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
    path.write_text(script("bash"))

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


def test_fixed_values_are_completed_in_lists_and_behind_commas_too(completed):
    assert completed("gippo plot kind=s") == ["space_time "]
    assert completed("gippo view viewer=") == list(VIEWERS)
    assert completed("gippo train best_by=e") == ["evaluation "]
    assert completed("gippo list sort=b") == ["best "]
    assert completed("gippo train logger=[csv,m") == ["[csv,mlflow"]
    assert completed("gippo train logger=[") == [f"[{name}" for name in LOGGERS]
    assert completed("gippo identify fit=[damping,arm") == ["[damping,armature"]
    assert completed("gippo train -m algo=gippo,pp") == ["gippo,ppo "]
    assert completed("gippo bench envs=[cartpole,hopp") == ["[cartpole,hopper"]
    assert completed("gippo train env.reward_clip=m") == ["mean "]
    assert completed("gippo reproduce tab") == ["table1", "table2"]
    assert completed("gippo completion z") == ["zsh "]


def test_values_are_those_that_the_keys_accept():
    """Each of the values that the script has is accepted, by the settings themselves."""
    values = dict(re.findall(r'\*:(\S+)\) choices="(.*)"', script("bash")))
    assert len(values) > 20
    for value in values["learner.actor.activation"].split():
        configure_training([f"learner.actor.activation={value}"])
    for value in values["algo.alpha.schedule"].split():
        configure_training(["algo=gippo", f"algo.alpha.schedule={value}"])


def test_zsh_has_the_same_words_in_what_it_shares_with_bash(tmp_path):
    zsh, bash = script("zsh"), script("bash")
    assert zsh.startswith("#compdef gippo\n")
    shared = [
        text[text.index("_gippo_words") : text.index("_gippo_matches()")] for text in (zsh, bash)
    ]
    assert shared[0] == shared[1]
    path = tmp_path / "_gippo"
    path.write_text(zsh)
    shell = shutil.which("zsh")  # bash reads it as well, but for what zsh alone has at run time
    command = [shell, "-n", path] if shell else ["bash", "-n", path]
    subprocess.run(command, check=True)


def test_what_has_no_words_is_left_to_the_names_of_files(completed):
    assert completed("gippo convert robot.x") == []
    assert completed("gippo train run_dir=ru") == []


def test_another_shell_is_refused_by_name(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script("bash")
    assert main(["completion", "bahs"]) == 2
    assert "did you mean 'bash'?" in capsys.readouterr().err
