"""The fixture as another project uses it: pytest in a process of its own, found by entry point."""

import pytest

pytest_plugins = ["pytester"]


def test_fixture_is_there_without_any_import(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import urllib.request

        def post(collector):
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(collector.endpoint, b"{}", headers)
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status

        def test_one(mock_collector):
            assert post(mock_collector) == 200
            assert len(mock_collector.journal.requests()) == 1

        def test_other_starts_with_an_empty_journal(mock_collector):
            assert mock_collector.journal.requests() == []
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")

    result.assert_outcomes(passed=2)


def test_marker_sets_the_collector_up(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.mock_collector(script="503*2", required_headers={"x-key": "k"})
        def test_marked(mock_collector):
            assert mock_collector.script.left[0].status == 503
            assert mock_collector.script.left[0].times == 2

        @pytest.mark.mock_collector("503")
        def test_wrongly_marked(mock_collector):
            pass
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*takes options by name only*"])


def test_fixture_and_marker_are_described(pytester: pytest.Pytester) -> None:
    fixtures = pytester.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider")
    markers = pytester.runpytest_subprocess("--markers", "-p", "no:cacheprovider")

    fixtures.stdout.fnmatch_lines(["*mock_collector*", "*strict OTLP/HTTP receiver*"])
    markers.stdout.fnmatch_lines(["@pytest.mark.mock_collector(*"])
