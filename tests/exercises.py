"""The two tests that every lesson's checks have: worked answers pass, and functions that are still empty are told so."""

from collections.abc import Callable, Mapping

import pytest

from tmrn_edu import check


def exercise_tests(answers: Mapping[str, Callable]) -> tuple[Callable, Callable]:
    """`test_worked_answers_pass` and `test_empty_functions_do_not` for exercises by name, with a right answer each."""

    @pytest.mark.parametrize("name", answers)
    def test_worked_answers_pass(name, capsys):
        assert getattr(check, name)(answers[name])
        assert capsys.readouterr().out.startswith("passed: ")

    @pytest.mark.parametrize("name", answers)
    def test_empty_functions_do_not(name, capsys):
        def stub(*_):
            raise NotImplementedError

        assert not getattr(check, name)(stub)
        assert capsys.readouterr().out == "not yet: the function is still empty\n"

    return test_worked_answers_pass, test_empty_functions_do_not
