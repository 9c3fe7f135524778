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


POST = """
    import urllib.request
    import pytest

    def post(collector, body=b"{}"):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(collector.endpoint, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
"""


def test_markers_merge_and_indirect_parameters_come_first(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        POST
        + """
    @pytest.mark.mock_collector(required_headers={"x-key": "k"}, script="429")
    class TestOfAClass:
        @pytest.mark.mock_collector(script="503")
        def test_both(self, mock_collector):
            assert mock_collector.headers == {"x-key": "k"}
            assert str(mock_collector.script.left[0]) == "503"

    @pytest.mark.parametrize("mock_collector", [{"script": "401"}], indirect=True)
    @pytest.mark.mock_collector(script="503")
    def test_parameter(mock_collector):
        assert post(mock_collector) == 401
    """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_factory_makes_collectors_for_fixtures_of_any_scope(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        POST
        + """
    @pytest.fixture(scope="session")
    def upstream(mock_collector_factory):
        return mock_collector_factory(script="503")

    def test_one(upstream):
        assert post(upstream) == 503

    def test_two(upstream, mock_collector):
        assert post(upstream) == 200
        assert upstream.port != mock_collector.port
    """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_failed_test_shows_what_arrived(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        POST
        + """
    def test_fails(mock_collector):
        post(mock_collector, b"[")
        assert False, mock_collector
    """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*<MockCollector http://127.0.0.1:*, 1 requests>*", "*the body is not JSON*"]
    )


def test_clean_fails_a_test_whose_requests_broke_a_rule(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        POST
        + """
    pytestmark = pytest.mark.mock_collector(clean=True)

    def test_wrong(mock_collector):
        post(mock_collector, b"[")

    @pytest.mark.mock_collector(script="503")
    def test_right(mock_collector):
        post(mock_collector)
    """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*1 rules were broken*"])
