"""What the registry says of an artifact is checked before anything is fetched."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inference_service.adapters.artifact import ALLOWED_FILES, Artifact
from lorikeet.rpc.errors import DataLossError
from tests.inference.artifacts import make_files, make_version


@given(st.text(max_size=30) | st.sampled_from(["../x", "/etc/passwd", "a/b", ".", "", "x.bin"]))
def test_file_names_outside_the_allow_list_are_refused(name: str) -> None:
    assume(name not in ALLOWED_FILES)
    with pytest.raises(DataLossError):
        Artifact.from_version(make_version({"adapter_config.json": b"{}", name: b"x"}))


@pytest.mark.parametrize("digest", ["", "sha256:../../x", "sha256:" + "A" * 64, "md5:" + "0" * 64])
def test_digests_that_are_not_digests_are_refused(digest: str) -> None:
    version = make_version(make_files())
    version.digest = digest
    with pytest.raises(DataLossError):
        Artifact.from_version(version)


def test_a_record_whose_files_do_not_make_its_digest_is_refused() -> None:
    version = make_version(make_files())
    version.files[0].size_bytes += 1
    with pytest.raises(DataLossError, match="do not make its digest"):
        Artifact.from_version(version)
