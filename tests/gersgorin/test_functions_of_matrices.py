"""Functions of matrices against NumPy, SciPy, definitions, closed forms and exact integers."""

import importlib
import math
from functools import reduce

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from matrices import MATRICES, REAL_MATRICES, grcar, jordan, shuffled, square_matrices
from scipy.optimize import linear_sum_assignment, minimize_scalar

import gersgorin
from gersgorin.linalg import (
    departure_from_normality,
    doubling_time,
    eigenvalue_conditions,
    eigenvalues,
    gersgorin_discs,
    half_life,
    in_brauer_ovals,
    in_minimal_gersgorin_set,
    in_ostrowski_discs,
    inclusion,
    jacobian_product,
    numerical_radius,
    pseudospectrum,
)
from gersgorin.linalg import singular_values as home
from gersgorin.linalg.disc_unions import discs_outline, overlap_ends
from gersgorin.linalg.jacobian_products import log_norms, running_products
from gersgorin.linalg.numerical_range import support_function
from gersgorin.linalg.threads import by_chunks, cores, pieces
from rhn.errors import InvalidInputError, NotFiniteError

d = torch.float64
DEFECTIVE = {"jordan_of_rotations"}  # blocks of 4: rounding moves eigenvalues by eps^(1/4) = 1e-4
NORMAL = ("identity", "zero", "rotations", "permutation", "symmetric", "doubly_stochastic")
SETS = {
    "row": lambda A, z, tol=None: in_ostrowski_discs(A, z, 1, tol),
    "column": lambda A, z, tol=None: in_ostrowski_discs(A, z, 0, tol),
    "ostrowski": lambda A, z, tol=None: in_ostrowski_discs(A, z, tol=tol),
    "brauer": in_brauer_ovals,
    "minimal": in_minimal_gersgorin_set,
}
SMALL = [name for name, A in REAL_MATRICES.items() if len(A) <= 12]


def norm(A):
    return float(torch.linalg.matrix_norm(A, 2))


def grid(A, side=25):
    """Points of a square that holds every inclusion set."""
    x = 1.1 * (gersgorin_discs(A).norm.item() or 1.0) * torch.linspace(-1, 1, side, dtype=d)
    return torch.complex(*torch.meshgrid(x, x, indexing="ij")).ravel()


@pytest.mark.parametrize("name", MATRICES)
def test_eigenvalues_are_numpys(name):
    A = MATRICES[name]
    apart = np.abs(eigenvalues(A).numpy()[:, None] - np.linalg.eigvals(A.numpy()))
    error = apart[linear_sum_assignment(apart)].max()
    assert error <= (1e-3 if name in DEFECTIVE else 1e-11) * A.abs().max().item()


@given(square_matrices())
def test_eigenvalues_are_sorted_and_have_the_trace_as_their_sum(A):
    values = eigenvalues(A)
    keys = [(abs(v), v.real, v.imag) for v in values.numpy()]
    assert keys == sorted(keys, reverse=True)
    assert abs(values.sum() - A.trace()).item() <= 1e-13 * len(A) * A.abs().sum().item()


def test_batches_and_workers_change_no_bit_of_eigenvalues():
    A = torch.randn(37, 2, 5, 5)
    values = eigenvalues(A)
    assert values.shape == (37, 2, 5) and torch.equal(values[3, 1], eigenvalues(A[3, 1]))
    assert eigenvalues(A[:0]).shape == (0, 2, 5)
    for workers in (1, 3, 64):
        assert torch.equal(eigenvalues(A, workers=workers), values)


@pytest.mark.parametrize(
    ("count", "n", "workers", "chunks"),
    [
        pytest.param(16, 64, 64, 12, id="work for three"),  # 1 + 16 * 64^3 // 2^21
        pytest.param(16, 64, 2, 8, id="two workers"),
        pytest.param(16, 64, 1, 1, id="one worker"),
        pytest.param(3, 128, 64, 3, id="few matrices"),
        pytest.param(16, 8, 64, 1, id="small ones"),
    ],
)
def test_each_worker_has_four_chunks_of_a_batch_that_is_worth_its_start(count, n, workers, chunks):
    A, sizes = torch.randn(count, 1, n, n), []
    (found,) = by_chunks(lambda some: sizes.append(len(some)) or some, A, workers)
    assert torch.equal(found, A) and len(sizes) == chunks and sum(sizes) == count


@pytest.mark.parametrize(
    ("affinity", "count", "wanted"),
    [
        pytest.param(lambda process: {1, 3, 5} if process == 0 else {}, 8, 3, id="of the process"),
        pytest.param(None, 6, 6, id="of the machine"),
        pytest.param(None, None, 1, id="unknown"),
    ],
)
def test_cores_are_those_of_the_process_where_the_system_says_so(
    affinity, count, wanted, monkeypatch
):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    if affinity is not None:
        monkeypatch.setattr("os.sched_getaffinity", affinity, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: count)
    assert cores() == wanted


def test_pieces_of_small_matrices_hold_many():
    few = torch.zeros(()).expand(9000, 32, 32)
    assert [len(piece) for piece in pieces(few)] == [4096, 4096, 808]


@pytest.mark.parametrize(
    "name", ["random", "companion", "stochastic", "badly_scaled", "symmetric", "complex"]
)
def test_conditions_are_those_of_scipys_eigenvectors_of_both_sides(name):
    values, conditions = eigenvalue_conditions(MATRICES[name])
    assert torch.equal(values, eigenvalues(MATRICES[name]))
    found, left, right = scipy.linalg.eig(MATRICES[name].numpy(), left=True)  # columns of norm 1
    nearest = np.abs(values.numpy()[:, None] - found).argmin(1)
    wanted = 1 / np.abs((left.conj() * right).sum(0))[nearest]
    np.testing.assert_allclose(conditions, wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, d, torch.complex128], ids=str)
def test_the_condition_is_infinite_for_jordan_blocks_only(dtype):
    for value in (1, 0.9, 0.3, 0):
        for above in (100, 1, 0.1, 1e-3):
            A = torch.tensor([[value, above, 0], [0, value, 0], [0, 0, 2 * value]], dtype=dtype)
            for block in (A[:2, :2], A[:2, :2].T, A):
                values, conditions = eigenvalue_conditions(block.contiguous())
                assert conditions[values.abs() < 1.5 * value].isinf().all()
    assert (eigenvalue_conditions(torch.eye(5, dtype=dtype))[1] == 1).all()
    conditions = eigenvalue_conditions(
        torch.tensor([[1, 0, 5], [0, 1, 7], [0, 0, 2]], dtype=dtype)
    )[1]  # that of 2 is the length of the row (5, 7, 1)
    assert conditions[0].item() == pytest.approx(75**0.5) and conditions.isfinite().all()


@pytest.mark.parametrize(
    ("gap", "wanted"),
    [
        pytest.param(1e-3, 1000.0005, id="far"),
        pytest.param(1e-10, 1e10, id="near"),
        pytest.param(3e-16, 1 / 3e-16, id="at rounding"),  # 0.7 / eps
        pytest.param(1.5e-16, math.inf, id="below rounding"),  # 1.5 / eps
    ],
)
def test_the_condition_of_two_near_eigenvalues_is_finite_up_to_rounding(gap, wanted):
    found = eigenvalue_conditions(torch.tensor([[0, 1], [0, gap]]).double())[1]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def three_groups(units=63):
    """Rank 3, sixty eigenvalues 0 and three 1.5: torch's LAPACK gives up on it."""
    signs = torch.randint(2, (units,), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    group = torch.arange(units).remainder(3)
    return 1.5 * signs[:, None] * signs * (group[:, None] == group) / (units / 3)


@pytest.mark.parametrize("function", [eigenvalues, lambda A: eigenvalue_conditions(A)[0]])
def test_numpys_lapack_is_used_if_torchs_does_not_converge(function, monkeypatch):
    def fails(*_):
        raise torch.linalg.LinAlgError

    A, wanted = three_groups().expand(2, -1, -1), torch.full((2, 3), 1.5, dtype=d)
    torch.testing.assert_close(function(A)[:, :3].real, wanted)
    for name in ("eig", "eigvals"):
        monkeypatch.setattr(torch.linalg, name, fails)
    torch.testing.assert_close(function(A)[:, :3].real, wanted)
    assert function(A.float()).dtype == function(torch.eye(2)).dtype == torch.complex64
    for name in ("eig", "eigvals"):
        monkeypatch.setattr(
            np.linalg, name, lambda *_: (_ for _ in ()).throw(np.linalg.LinAlgError)
        )
    with pytest.raises(InvalidInputError, match="did not converge"):
        function(A)


@pytest.mark.parametrize("name", MATRICES)
def test_discs_are_those_of_numpy(name):
    A = MATRICES[name].numpy()
    for axis, sum_axis, order in (("row", 1, np.inf), ("column", 0, 1)):
        discs = gersgorin_discs(MATRICES[name], axis)
        radii = np.abs(A - np.diag(np.diag(A))).sum(sum_axis)
        np.testing.assert_array_equal(discs.centers, np.diag(A))
        np.testing.assert_allclose(discs.radii, radii, rtol=1e-14)
        np.testing.assert_allclose(discs.norm, np.linalg.norm(A, order), rtol=1e-14)
        z = torch.cat((grid(MATRICES[name]), eigenvalues(MATRICES[name])))
        assert torch.equal(discs.contains(z), SETS[axis](MATRICES[name], z))


def test_the_tolerance_of_membership_is_needed_and_small():
    A, outside = MATRICES["permutation"], torch.tensor([1 + 2**-52], dtype=d)
    for inside in (SETS["row"], lambda A, z, tol=None: gersgorin_discs(A).contains(z, tol)):
        assert not inside(A, outside, 0).any()  # the common boundary is the unit circle
        assert inside(A, outside).all() and inside(A, eigenvalues(A)).all()
        assert not inside(A, torch.tensor([1 + 1e-12], dtype=d)).any()
        assert inside(A, torch.tensor([1 + 1e-9]), 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float32, d], ids=str)
@pytest.mark.parametrize("name", ["grcar", "jordan"])
def test_discs_hold_ill_conditioned_spectra_that_rounding_moves_far(name, dtype):
    n = 100
    hidden = shuffled(jordan(n, 0.9)) + 1e-9 * jordan(n, 0)  # LAPACK would read a triangle
    A = torch.from_numpy({"grcar": grcar(n), "jordan": hidden}[name]).to(dtype)
    (values, conditions), transposed = eigenvalue_conditions(A), eigenvalues(A.T)
    for axis in ("row", "column"):
        assert gersgorin_discs(A, axis).contains(torch.cat((values, transposed))).all()
    moved, eps = (values[:, None] - transposed).abs().amin(1).max(), torch.finfo(dtype).eps
    assert 100 * n * eps * gersgorin_discs(A).norm < moved < n * conditions.max() * eps * norm(A)


@pytest.mark.parametrize("key", SETS)
def test_spectra_lie_inside_every_inclusion_set(key):
    for A in MATRICES.values():
        assert SETS[key](A, eigenvalues(A)).all()


@given(square_matrices(5), st.sampled_from([d, torch.float32]))
def test_random_spectra_lie_inside_every_inclusion_set(A, dtype):
    A = A.to(dtype)
    assert all(inside(A, eigenvalues(A)).all() for inside in SETS.values())


def test_sets_are_those_of_all_matrices_whose_entries_differ_by_the_tolerance():
    A = torch.tensor([[0.0, 0.5, 0.2], [0.1, 1.0, 0.3], [0.4, 0.4, 3.0]], dtype=d)
    z, tol, alpha = torch.linspace(-2, 5, 701, dtype=d), 0.6, 0.25
    rows, columns = [1.1, 0.8, 1.2], [0.9, 1.3, 0.9]  # two thirds of the tolerance more
    others = A.numpy() + 0.2
    found = {
        "ostrowski": in_ostrowski_discs(A, z, alpha, tol),
        "brauer": in_brauer_ovals(A, z, tol),
        "minimal": in_minimal_gersgorin_set(A, z, tol),
    }
    for k, point in enumerate(z.tolist()):
        away = [abs(point - center) - 0.2 for center in (0, 1, 3)]
        outside = [max(each, 0) for each in away]
        np.fill_diagonal(others, np.negative(away))
        gaps = {
            "ostrowski": min(
                each - row**alpha * column ** (1 - alpha)
                for each, row, column in zip(away, rows, columns, strict=True)
            ),
            "brauer": min(
                outside[i] * outside[j] - rows[i] * rows[j] for i, j in ((0, 1), (0, 2), (1, 2))
            ),
            "minimal": -np.linalg.eigvals(others).real.max(),
        }
        for name, gap in gaps.items():
            assert abs(gap) < 1e-9 or bool(found[name][k]) == (gap < 0), (name, point)


@pytest.mark.parametrize("key", SETS)
def test_the_boundary_belongs_to_every_inclusion_set(key):
    A, z = torch.tensor([[0.0, 4.0], [4.0, 0.0]]), torch.tensor([4.0, 4.001])
    assert SETS[key](A, z, 0).tolist() == gersgorin_discs(A).contains(z, 0).tolist()
    assert SETS[key](A, z, 0).tolist() == [True, False]


@pytest.mark.parametrize(
    ("of_matrix", "of_points"),
    [
        pytest.param(torch.float32, d, id="matrix in float32"),
        pytest.param(d, torch.float32, id="points in float32"),
    ],
)
@pytest.mark.parametrize("key", SETS)
def test_the_default_tolerance_is_ten_n_roundings_of_the_larger_norm(key, of_matrix, of_points):
    A = torch.tensor([[0.0, 8.0], [0.125, 4.0]], dtype=of_matrix)  # its columns have the sum 12
    tol = 10 * 2 * torch.finfo(torch.float32).eps * 12
    edges = torch.tensor([2 + 5**0.5, 5, 8, 12], dtype=d)  # where a set ends
    z = (edges[:, None] + tol * torch.linspace(0, 4, 101, dtype=d)).flatten().to(of_points)
    for matrix in (A, A.mT):
        found = SETS[key](matrix, z)
        assert torch.equal(found, SETS[key](matrix, z, tol))
        assert not torch.equal(found, SETS[key](matrix, z, 0.9 * tol))


@pytest.mark.parametrize("name", REAL_MATRICES)
def test_inclusion_sets_are_their_definitions_one_inside_the_other(name):
    """A point is in the minimal set if the Perron root of |A off the diagonal| - diag |z - a_ii| is
    not negative.
    """
    A = MATRICES[name] / (MATRICES[name].abs().max() or 1)
    z = grid(A)
    minimal, brauer, row = (SETS[key](A, z, 0) for key in ("minimal", "brauer", "row"))
    assert not (minimal & ~brauer).any() and not (brauer & ~row).any()
    assert torch.equal(minimal, in_minimal_gersgorin_set(A.mT, z, 0))
    radii, distances = gersgorin_discs(A).radii, (z[:, None] - A.diagonal()).abs()
    i, j = torch.tril_indices(len(A), len(A), -1)
    ovals = distances[:, i] * distances[:, j] <= radii[i] * radii[j]
    assert torch.equal(brauer, ovals.any(1) if len(A) > 1 else distances[:, 0] == 0)
    if name in SMALL:
        Q = A.abs().fill_diagonal_(0) - torch.diag_embed(distances)
        root = torch.from_numpy(np.linalg.eigvals(Q.numpy()).real.max(1))
        sure = root.abs() > 1e-3 / len(A)  # the root of a defective Q is known to a few digits
        assert torch.equal(minimal[sure], root[sure] >= 0)


@pytest.mark.parametrize("key", SETS)
def test_inclusion_sets_of_a_batch_are_those_of_its_matrices(key, monkeypatch):
    A, tol = torch.randn(2, 3, 5, 5, dtype=d), torch.rand(2, 3)
    z = torch.randn(2, 3, 40, dtype=torch.complex128) * 3
    inside, wide = SETS[key](A, z), SETS[key](A, z, tol)
    assert inside.any() and not inside.all()
    monkeypatch.setattr(inclusion, "CHUNK", 1)
    for k in np.ndindex(2, 3):
        assert torch.equal(inside[k], SETS[key](A[k], z[k]))
        assert torch.equal(wide[k], SETS[key](A[k], z[k], tol[k]))
    with pytest.raises(InvalidInputError, match=r"A has shape \(2, 3\)"):
        SETS[key](torch.zeros(2, 3), z)


@given(st.lists(st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 1e-14]) | st.floats(0, 2)),
                min_size=1, max_size=9))  # fmt: skip
@example([(0.0, 1.0), (2.0, 0.0), (5e-324, 0.0)])  # two centers that are one once they are scaled
def test_the_outline_of_discs_is_their_upper_envelope(pairs):
    centers, radii = np.array(pairs).T
    for curve in discs_outline(centers, radii, 33):
        assert curve[0] == curve[-1]
        x, y = curve.real, np.abs(curve.imag)
        height = np.sqrt(np.clip(radii**2 - (x[:, None] - centers) ** 2, 0, None)).max(1)
        np.testing.assert_allclose(y, height, atol=1e-6)  # a square root of rounding


@pytest.mark.parametrize("size", [1.0, 1e-190, 1e190])
@pytest.mark.parametrize(
    ("discs", "uppers"),
    [
        pytest.param({0: 0, 4: 1, 4.5: 0}, [[0], [3, 5]], id="a point, and one in a disc"),
        pytest.param({-3: 0.1, 0: 5}, [[-5, 5]], id="a disc in a disc"),
        pytest.param({10: 5, 16: 5}, [[5, 13 + 4j, 13 + 4j, 21]], id="circles that cross"),
        pytest.param({-2: 2, 1: 1}, [[-4, 0, 0, 2]], id="circles that touch"),
        pytest.param({0: 0, 1: 1}, [[0, 0, 2]], id="a point on a circle"),
        pytest.param({-1: 1.25, 0: 0.75, 1: 1.25}, [[-2.25, 0.75j, 0.75j, 2.25]], id="hidden"),
    ],
)
def test_the_outline_of_few_discs_joins_the_ends_of_their_arcs(discs, uppers, size):
    found = discs_outline(size * np.array([*discs]), size * np.array([*discs.values()]), 2)
    for curve, upper in zip(found, uppers, strict=True):
        wanted = np.array([*upper, *np.conj(upper[::-1]), upper[0]])
        np.testing.assert_allclose(curve / size, wanted, atol=1e-14)


@pytest.mark.parametrize("name", SMALL)
def test_the_overlap_of_both_unions_ends_where_a_grid_of_points_does(name):
    pairs = [[t.numpy() for t in gersgorin_discs(MATRICES[name], k)] for k in ("row", "column")]
    far, right = overlap_ends(*pairs[0], pairs[1][1])
    side = max(float((np.abs(c) + r).max()) for c, r in pairs)
    z = side * (np.linspace(-1, 1, 401)[:, None] + 1j * np.linspace(-1, 1, 401))
    z = z[np.logical_and.reduce([(np.abs(z[..., None] - c) <= r).any(-1) for c, r in pairs])]
    reach, edge = np.abs(z).max(initial=0.0), z.real.max(initial=-side)
    assert reach <= far * (1 + 1e-12) and edge <= right + 1e-12 * side
    assert far >= eigenvalues(MATRICES[name]).abs().max() - 1e-6 * side
    # else isolated points, which no grid meets
    assert len(z) < 1000 or max(far - reach, right - edge) <= 0.03 * side


@pytest.mark.parametrize("size", [1.0, 1e-190, 1e190])
@pytest.mark.parametrize(
    ("centers", "rows", "columns", "ends"),
    [
        pytest.param([0, 2], [0, 2], [0, 2], (4, 4), id="equal discs"),
        pytest.param([0, 4], [3, 0], [0, 3], (4, 4), id="a center"),  # of [[0, 3], [0, 4]]
        pytest.param([0, 4], [5, 0.1], [0.1, 5], (5, 5), id="a circle"),
        pytest.param([-3, 11], [13, 0], [0, 15], (148**0.5, 11), id="a crossing"),  # 2 + 12i
        pytest.param([3, -11], [13, 0], [0, 15], (148**0.5, 4), id="a crossing on the left"),
    ],
)
def test_the_overlap_may_end_before_both_unions_do(centers, rows, columns, ends, size):
    found = overlap_ends(*(size * np.array(each) for each in (centers, rows, columns)))
    assert found == pytest.approx((size * ends[0], size * ends[1]), rel=1e-14)


@pytest.mark.parametrize("name", REAL_MATRICES)
def test_the_numerical_radius_is_within_its_bounds(name):
    A = MATRICES[name]
    found, size, radius = float(numerical_radius(A)), norm(A), eigenvalues(A).abs().max().item()
    x = torch.randn(300, len(A), dtype=torch.complex128)
    quotients = torch.einsum("ki,ij,kj->k", x.conj(), A + 0j, x) / (x.conj() * x).sum(-1)
    assert max(size / 2, quotients.abs().max().item()) * (1 - 1e-12) <= found <= size
    assert found >= radius * (1 - 1e-9)
    if name in NORMAL:
        assert found == pytest.approx(radius, abs=1e-12)


@pytest.mark.parametrize("power", [-1060, -500, 0, 500, 1020])
def test_the_range_of_a_jordan_block_is_a_disc_of_known_radius_at_every_scale(power):
    for n in (2, 3, 8):
        block = torch.ldexp(torch.from_numpy(jordan(n, 0.0)), torch.tensor(power))
        radius = math.cos(math.pi / (n + 1))
        found = math.ldexp(float(numerical_radius(block)), -power)
        assert radius * (1 - 1e-3) <= found <= radius / math.cos(math.pi / 128) * (1 + 1e-3)


@pytest.mark.parametrize("angles", [4, 6, 128])
def test_support_lines_are_largest_eigenvalues_of_hermitian_parts(angles):
    A, turns = MATRICES["random"].numpy(), np.exp(-2j * np.pi * np.arange(angles) / angles)
    wanted = [np.linalg.eigvalsh((turn * A + (turn * A).conj().T) / 2)[-1] for turn in turns]
    np.testing.assert_allclose(support_function(MATRICES["random"], angles), wanted)


@pytest.mark.parametrize("name", REAL_MATRICES)
def test_henricis_departure_is_the_norm_above_schurs_diagonal(name):
    A, size = MATRICES[name], norm(MATRICES[name]) or 1
    triangle, _ = scipy.linalg.schur(A.numpy() / size, output="complex")
    wanted, whole = np.linalg.norm(np.triu(triangle, 1)), np.linalg.norm(A.numpy() / size)
    assert float(departure_from_normality(A)) / size == pytest.approx(wanted, abs=1e-6 * whole)
    relative = float(departure_from_normality(A, eigenvalues(A), relative=True))
    assert relative == pytest.approx(wanted / (whole or 1), abs=1e-6)
    assert name not in NORMAL or relative < 1e-6


@pytest.mark.parametrize(
    ("share", "counts"), [pytest.param(0.5, 0, id="below"), pytest.param(1.6, 1, id="above")]
)
def test_a_departure_counts_if_it_is_above_the_rounding_of_its_squares(share, counts):
    A = torch.eye(8, dtype=d)
    A[0, 1] = math.sqrt(share * (16 + 8) * 2**-52 * 8)
    found = departure_from_normality(A, torch.ones(8, dtype=d))
    assert found.item() == pytest.approx(counts * A[0, 1].item(), rel=0.1)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_squares_of_a_departure_neither_vanish_nor_overflow(size):
    found = departure_from_normality(size * torch.tensor([[1, 3], [0, 2]], dtype=d))
    assert found.item() == pytest.approx(3 * size)


@pytest.mark.parametrize("name", MATRICES)
def test_a_pseudospectrum_is_the_smallest_singular_value_at_every_point(name):
    A = MATRICES[name].numpy()
    x = 1.3 * (norm(MATRICES[name]) or 1) * np.linspace(-1, 1, 8)
    z = np.concatenate([(x + 1j * x[:, None]).ravel(), np.linalg.eigvals(A), A.diagonal()])
    wanted = [scipy.linalg.svdvals(point * np.eye(len(A)) - A)[-1] for point in z]
    rounding = 1e-15 * len(A) * norm(MATRICES[name])
    np.testing.assert_allclose(pseudospectrum(MATRICES[name], z), wanted, 1e-14, rounding)


def test_grids_in_parts_and_batches_have_the_same_pseudospectra(monkeypatch):
    A, z = torch.randn(2, 3, 4, 4), torch.randn(5, 6, dtype=torch.complex64)
    found = pseudospectrum(A, z)
    assert found.shape == (2, 3, 5, 6) and found.dtype == d
    for entries in (48, 8):  # of three matrices, and of half a one
        monkeypatch.setattr(home, "ENTRIES", entries)
        assert torch.allclose(found[1, 2], pseudospectrum(A[1, 2].double(), z.numpy()))


@pytest.mark.parametrize("n", [2, 7, 20])
def test_the_distance_to_the_circle_is_the_least_over_all_angles(n):
    """The reference is a bounded search around each low point of 300 angles and those of the
    eigenvalues.
    """
    rng = np.random.default_rng(11)
    G, turn = rng.standard_normal((n, n)) / n**0.5, np.linalg.qr(rng.standard_normal((n, n)))[0]
    similar = np.eye(n) + 2 * np.triu(G, 1)
    skewed = similar @ (0.999 * turn) @ np.linalg.inv(similar)
    for A in ((1 - 1e-5) * turn, 0.9 * G, 2 * G, skewed, G + 1j * turn):
        angles = np.append(np.linspace(-np.pi, np.pi, 300), np.angle(np.linalg.eigvals(A)))
        angles = np.unique(angles)

        def height(t, a, A=A):
            return scipy.linalg.svdvals(np.exp(1j * (a + t)) * np.eye(n) - A)[-1]

        values = np.array([height(0, a) for a in angles])
        least, low = values.min(), values[1:-1] < values.min() + 0.01
        for before, a, after in np.lib.stride_tricks.sliding_window_view(angles, 3)[low]:
            sides = {"bounds": (before - a, after - a), "options": {"xatol": 1e-10}}
            least = min(least, minimize_scalar(height, args=(a,), **sides).fun)
        assert home.distance_to_circle(torch.from_numpy(A)) == pytest.approx(least, rel=1e-6)


def test_the_distance_of_an_eigenvalue_between_two_angles_of_the_grid_is_found():
    spacing, A = 2 * math.pi / home.ANGLES, np.diag([1 - 1e-3, 1 - 1e-6]).astype(complex)
    A *= np.exp(1j * spacing * np.array([0.25, 0.625]))  # the first one is lower on the grid
    assert home.distance_to_circle(torch.from_numpy(A)) == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("side", [1, -1], ids=["before it", "after it"])
@pytest.mark.parametrize("place", [4.9, 5.4])
def test_the_least_of_two_low_points_two_angles_apart_is_found(place, side):
    """On the grid the point at the other eigenvalue is lower."""
    spacing = 2 * math.pi / home.ANGLES
    A = np.diag([0.98 - 5e-5, 0.98]) * np.exp(1j * side * spacing * np.array([3, place]))
    assert home.distance_to_circle(torch.from_numpy(A)) == pytest.approx(0.02, rel=1e-6)


def test_a_product_of_two_thousand_steps_is_that_of_exact_integers():
    integers, P = np.random.default_rng(1).integers(-30, 31, (2000, 3, 3)), np.eye(3, dtype=int)
    for step in integers.astype(object):
        P = step.dot(P.astype(object))
    bits = max(int(abs(entry)).bit_length() for entry in P.ravel())
    entries = [math.ldexp((int(entry) << 64) >> bits, -64) for entry in P.ravel()]
    exact, A = np.array(entries).reshape(3, 3), torch.from_numpy(integers.astype(float))
    found, log_scale = jacobian_product(A)
    np.testing.assert_allclose(found, exact, atol=1e-9)
    assert float(log_scale) == pytest.approx(bits * math.log(2), rel=1e-14)
    P, e = running_products(A[:1])
    P, e = running_products(A[1:], before=(P[-1], e[-1]))
    log_norm = float(log_norms(P, e)[-1])
    assert log_norm == pytest.approx(math.log(np.linalg.norm(exact, 2)) + bits * math.log(2))
    assert {t.dtype for t in jacobian_product(A.float())} == {torch.float32}


@given(square_matrices(5), st.integers(0, 4))
def test_short_products_are_plain_ones_also_in_a_batch(A, steps):
    sequence = torch.stack([A if t % 2 == 0 else A.T for t in range(steps)] or [A])[:steps]
    P, log_scale = jacobian_product(torch.stack((sequence, 0 * sequence), 1))
    wanted = reduce(lambda P, step: step @ P, sequence, torch.eye(len(A), dtype=d))
    tolerance = 1e-13 * float(torch.linalg.matrix_norm(A)) ** steps
    torch.testing.assert_close(P[0] * log_scale[0].exp(), wanted, rtol=1e-13, atol=tolerance)
    assert (P[0] == 0).all() or 0.5 <= P[0].abs().max() < 1
    assert steps == 0 or (not P[1].any() and log_scale[1] == 0)


@pytest.mark.parametrize(("rate", "half", "double"), [
                                       (0.0, math.inf, math.inf), (-math.inf, 0, math.inf),
                                       (math.log(0.9), 6.578813, math.inf),
                                       (math.log(2), math.inf, 1)])  # fmt: skip
def test_half_lives_and_doubling_times(rate, half, double):
    assert half_life(rate).item() == pytest.approx(half)
    assert doubling_time(rate).item() == pytest.approx(double)


@pytest.mark.parametrize(
    "function", [eigenvalues, gersgorin_discs, jacobian_product, numerical_radius]
)
def test_what_is_no_stack_of_finite_square_matrices_is_refused(function):
    bad = (torch.full((3, 3, 3), torch.nan), torch.zeros(2, 3, 4), torch.eye(2).to_sparse(),
           torch.eye(3).int(), np.eye(2), torch.eye(2).half())  # fmt: skip
    for A in bad:
        with pytest.raises(InvalidInputError, match=r"^A (is|has) .*: expected"):
            function(A)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param("spectrum", "half_life", id="half-life"),
        pytest.param("spectrum", "doubling_time", id="doubling time"),
        pytest.param("spectrum", "jacobian_product", id="product"),
        pytest.param("discs", "numerical_radius", id="numerical radius"),
    ],
)
def test_a_documented_path_of_0_7_leads_to_the_same_function(module, name):
    old = importlib.import_module(f"gersgorin.linalg.{module}")
    assert getattr(old, name) is getattr(gersgorin.linalg, name)


def test_a_sum_that_overflows_is_no_entry_that_is_not_finite():
    A = 1.7e308 * torch.eye(2, dtype=d)
    assert torch.equal(eigenvalues(A).real, A.diagonal())
    A[0, 1] = torch.inf
    with pytest.raises(NotFiniteError, match="NaN or infinite at 1 of 4 places"):
        eigenvalues(A)


def test_a_matrix_without_numbers_is_refused():
    with pytest.raises(InvalidInputError, match=r"^A is torch.float32, .* a dense tensor"):
        eigenvalues(torch.empty(2, 2, device="meta"))
