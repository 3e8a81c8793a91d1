from puma_cli.data.scenes.scene import Scene, Thing, Wish, all_scenes

RED = Thing("red", "circle", "small")
BLUE = Thing("blue", "square", "large")
SCENE = Scene(RED, BLUE, "left", "sand")


def test_every_scene_is_valid_and_listed_once() -> None:
    scenes = list(all_scenes())
    # 36 kinds, ordered pairs of different ones, two sizes each, 2 relations, 4 backgrounds.
    assert len(scenes) == len(set(scenes)) == 36 * 35 * 4 * 2 * 4
    assert all(scene.is_valid for scene in scenes)


def test_a_scene_of_two_like_things_is_not_valid() -> None:
    assert not Scene(RED, RED._replace(size="large"), "left", "sand").is_valid


def test_reversing_twice_gives_the_scene_back() -> None:
    assert SCENE.reversed() != SCENE
    assert SCENE.reversed().reversed() == SCENE


def test_a_full_wish_is_satisfied_by_its_scene_alone() -> None:
    satisfied = [scene for scene in all_scenes() if Wish(SCENE).is_satisfied_by(scene)]
    assert satisfied == [SCENE]


def test_a_wish_without_sizes_or_background_leaves_them_open() -> None:
    other = SCENE._replace(first=RED._replace(size="large"))
    assert Wish(SCENE, sizes=False).is_satisfied_by(other)
    assert not Wish(SCENE, background=False).is_satisfied_by(other)
    grey = SCENE._replace(background="grey")
    assert Wish(SCENE, background=False).is_satisfied_by(grey)
    assert not Wish(SCENE, sizes=False).is_satisfied_by(grey)
    assert not Wish(SCENE, sizes=False, background=False).is_satisfied_by(SCENE.reversed())
