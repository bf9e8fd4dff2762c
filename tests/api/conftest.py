"""Sites shared by the tests of api/: every test makes its own visitors, so none sees another's things."""

from collections.abc import Iterator

import pytest

from tests.support.serving import Site, Visitor, served, until


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a gradio page, for this machine only."""
    with served(tmp_path_factory.mktemp("site"), with_page=True) as running:
        yield running


@pytest.fixture
def me(site: Site) -> Visitor:
    return site.visitor()


@pytest.fixture
def you(site: Site) -> Visitor:
    return site.visitor()


@pytest.fixture
def held(site: Site) -> Iterator[Site]:
    """The site with its worker held in mid-step; let go at the end."""
    until(site.is_idle)
    site.worker.gate.clear()
    yield site
    site.worker.gate.set()
    until(site.is_idle)
