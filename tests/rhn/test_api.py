"""The example of the package runs."""

import textwrap

import rhn


def test_the_example_of_the_package_runs(own_folder, capsys):
    before, names = rhn.__doc__.partition("    import rhn"), {}
    exec(textwrap.dedent("".join(before[1:]).rpartition("\n\n")[0]), names)
    assert capsys.readouterr().out.endswith(" nats per frame\n")
    assert names["outputs"].shape[1:] == (16,) and names["frames"].shape == (8, 88)
