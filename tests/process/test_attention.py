import pytest
import torch

from driftlaw.process.laws import attention, kernel_sum
from driftlaw.process.laws.attention import OPERATORS, fast_attention
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.seeding import generator
from oracles import kernel_twin


@pytest.fixture
def untried():
    """Operators are tried anew in the test and again after it."""
    fast_attention.cache_clear()
    yield
    fast_attention.cache_clear()


def efficient(query, key, value, bias, compute_log_sumexp, dropout_p=0.0, is_causal=False, *, scale=None):
    """The CUDA operator by its definition: its arguments, its four results, its padding to 32 rows."""
    assert (bias, compute_log_sumexp, dropout_p, is_causal, scale) == (None, True, 0.0, False, 1.0)
    logits = query @ key.mT
    log_sum = torch.full((1, 1, -(-query.shape[2] // 32) * 32), float("inf"))
    log_sum[:, :, : query.shape[2]] = logits.logsumexp(-1)
    return logits.softmax(-1) @ value, log_sum, torch.zeros(()), torch.zeros(())


def half(*arguments, **options):
    """The same in half precision."""
    out, log_sum, *rest = efficient(*arguments, **options)
    return out.bfloat16().float(), log_sum, *rest


@pytest.mark.parametrize("device", list(OPERATORS))
def test_the_operators_of_this_pytorch_have_the_expected_arguments_and_shapes(device):
    """On tensors without data, so that no GPU is needed."""
    query, key = (torch.empty(1, 1, m, 16, device="meta") for m in (40, 600))
    try:
        out, log_sum = OPERATORS[device](query, key, key)
    except (AttributeError, NotImplementedError) as missing:
        pytest.skip(str(missing))
    assert (out.shape, log_sum.shape) == ((1, 1, 40, 16), (1, 1, 40))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("t", [0.02, 1.0])
def test_kernel_sums_through_the_cuda_operator(monkeypatch, untried, weighted, t):
    """The path that CUDA takes, forced on the CPU: the operator's stand-in, the padding, the blocks, the draws."""
    monkeypatch.setitem(OPERATORS, "cpu", attention._cuda_attention)
    monkeypatch.setattr(torch.ops.aten, "_scaled_dot_product_efficient_attention", efficient, raising=False)
    monkeypatch.setattr(kernel_sum, "CENTRES", 512)
    w = torch.rand(1100, generator=generator(1), dtype=torch.float64) + 0.1
    w = w / w.sum() if weighted else None
    law = KernelMixture(torch.randn(1100, 10, generator=generator(0)) + 2, 0.6, w)
    x = law.diffuse(t).sample(70, generator(2))
    assert fast_attention("cpu") is attention._cuda_attention
    plain = KernelMixture._plain_sums
    monkeypatch.setattr(KernelMixture, "_plain_sums", None)
    got = law.evaluate(x, t)
    for value, exact in zip(got, kernel_twin.evaluate(law.centres, 0.6, x, t, w), strict=False):
        torch.testing.assert_close(value.double(), exact, rtol=2e-5, atol=5e-5)
    monkeypatch.setattr(KernelMixture, "_plain_sums", plain)
    assert law.reverse_transition(x, t, t / 2, generator(3)).shape == (70, 10)


@pytest.mark.parametrize("operator", [half, lambda *a, **k: efficient(*a, **k)[:1], None])
def test_an_imprecise_different_or_missing_cuda_operator_is_not_trusted(monkeypatch, untried, operator):
    monkeypatch.setitem(OPERATORS, "cpu", attention._cuda_attention)
    monkeypatch.setattr(torch.ops.aten, "_scaled_dot_product_efficient_attention", operator, raising=False)
    assert fast_attention("cpu") is None
    law = KernelMixture(torch.randn(300, 3, generator=generator(0)), 0.6)
    x = law.sample(20, generator(1))
    exact = kernel_twin.evaluate(law.centres, 0.6, x, 0.1)
    torch.testing.assert_close(law.score(x, 0.1).double(), exact[1], rtol=1e-5, atol=1e-5)


def test_a_wrong_log_sum_on_the_cpu_is_not_trusted(monkeypatch, untried):
    name = "_scaled_dot_product_flash_attention_for_cpu"
    real = getattr(torch.ops.aten, name, None)
    if real is None:
        pytest.skip("no fused CPU attention")

    def wrong(*arguments, **options):
        out, log_sum = real(*arguments, **options)
        return out, log_sum + 0.01

    monkeypatch.setattr(torch.ops.aten, name, wrong)
    assert fast_attention("cpu") is None


def test_devices_without_an_operator_or_without_hardware(untried):
    assert fast_attention("mps") is None
    if not torch.cuda.is_available():
        assert fast_attention("cuda") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_float32_on_cuda_takes_the_fused_path():
    assert fast_attention("cuda") is not None
    law = KernelMixture(torch.randn(3000, 10, generator=generator(0)).cuda(), 0.6)
    x = law.diffuse(0.3).sample(100, torch.Generator("cuda").manual_seed(0))
    x64, a, v = law._prepare(x, 0.3)
    assert bool(law._fast_rows(x, x64, a, v).all())
    exact = kernel_twin.evaluate(law.centres.cpu(), 0.6, x.cpu(), 0.3)
    for value, twin in zip(law.evaluate(x, 0.3), exact, strict=False):
        torch.testing.assert_close(value.cpu().double(), twin, rtol=2e-5, atol=5e-5)
