from __future__ import annotations

import numpy as np

from keypipe.diagnosis.shape_model import align

MEAN = np.array([-3 - 1j, 2 - 1j, -2 + 1j, -1.8 + 0.8j, -2 + 2j])


def test_aligning_undoes_a_similarity() -> None:
    aligned, scale, shift = align((MEAN * 3j + 7)[None], MEAN)
    np.testing.assert_allclose(aligned[0], MEAN, atol=1e-12)
    np.testing.assert_allclose((scale[0], shift[0]), (1 / 3j, -7 / 3j))
