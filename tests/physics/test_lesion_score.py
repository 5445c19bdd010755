"""From how sure a network is of a lesion to what is drawn."""

import numpy as np

from mrtai.physics.lesion_score import sure


def test_a_piece_is_drawn_whole_when_its_surest_voxel_is_sure_enough():
    score = np.zeros((5, 9, 9))
    score[2, 2, 1:5] = (0.6, 0.9, 0.6, 0.4)
    score[2, 6, 1:5] = 0.6
    drawn = sure(score, 0.5, 0.8)
    assert np.argwhere(drawn).tolist() == [[2, 2, 1], [2, 2, 2], [2, 2, 3]]


def test_pieces_that_touch_at_a_corner_are_one():
    score = np.zeros((4, 4, 4))
    score[1, 1, 1], score[2, 2, 2] = 0.6, 0.9
    assert sure(score, 0.5, 0.8).sum() == 2


def test_an_image_without_lesions_stays_empty():
    assert not sure(np.zeros((3, 3, 3))).any()
