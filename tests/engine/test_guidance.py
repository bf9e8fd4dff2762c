"""Each method of guidance against its paper's formula, written out here on a toy model; off is absent, bit for bit."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from catalog.guidance import GUIDANCE_METHODS, Method, curve_guidance, evaluations_per_step, guidance_at
from contract.errors import InvalidRecipe
from contract.parts import GuidanceMethod
from engine.families.unet import predict_with
from engine.sampling.denoise import Conditions, ControlResiduals, denoise
from engine.sampling.guidance.attention import gaussian_blur
from engine.sampling.guidance.noise import Detail
from engine.sampling.guidance.protocol import Evaluation, Prediction, classifier_free, make_guide
from engine.sampling.samplers import Sampling, sampling_for
from tests.support import tiny

CPU = torch.device("cpu")
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (1, 4, 8, 8)
COND, UNCOND, LATENTS, NOISE = (
    torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3, 4)
)
GUIDED = Conditions(torch.zeros(2, 2, 3), is_guided=True)
PREDICTIONS = ("epsilon", "v_prediction", "sample")
WITH_MAKER = [method for method in GUIDANCE_METHODS.values() if "unet" in method.denoisers]


def sampling(sampler: str = "euler", steps: int = 10, prediction_type: str = "epsilon") -> Sampling:
    return sampling_for(sampler, "uniform", steps, {**BETAS, "prediction_type": prediction_type}, CPU)


def two(x: Tensor, level: object, conditions: Conditions) -> Tensor:
    """A toy: a prediction for the negative prompt, and one for the prompt."""
    return torch.cat([UNCOND, COND] if conditions.is_guided else [COND])


def evaluation(step: int = 4, guidance: float = 7.0, plan: Sampling | None = None, **changes: Any) -> Evaluation:
    plan = plan or sampling()
    sigma = plan.sigmas[step]
    made = Evaluation(LATENTS * sigma, plan.level(sigma), sigma, GUIDED, guidance, step, plan, two)
    return replace(made, **changes)


def guide(asked: Evaluation, unet: Any = None, **methods: dict[str, Any]) -> Prediction:
    used = [GuidanceMethod(id=name, values=values) for name, values in methods.items()]
    return make_guide(used, asked.sampling, unet)(asked)


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    return torch.allclose(found, wanted, rtol=tolerance, atol=tolerance)


CFG = UNCOND + 7.0 * (COND - UNCOND)


# What combines or corrects two predictions


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_rescale_has_the_prompts_deviation_in_a_share(prediction_type: str) -> None:
    asked = evaluation(plan=sampling(prediction_type=prediction_type))
    found = guide(asked, cfg_rescale={"phi": 0.7}).guided
    rescaled = CFG * COND.std() / CFG.std()
    assert close(found, 0.7 * rescaled + 0.3 * CFG)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_projected_guidance_drops_what_is_parallel_and_limits_and_remembers(prediction_type: str) -> None:
    plan = sampling(prediction_type=prediction_type)
    method = make_guide([GuidanceMethod(id="apg", values={"eta": 0.2, "threshold": 4.0})], plan, None)
    average: Tensor | float = 0.0
    for step in (3, 4):
        asked = evaluation(step, plan=plan)
        x0, x0_uncond = (asked.level.denoised(asked.x, one) for one in (COND, UNCOND))
        average = x0 - x0_uncond - 0.5 * average
        direction = average * min(1.0, 4.0 / float(average.norm()))
        along = (direction * x0).sum() / (x0 * x0).sum() * x0
        wanted = x0 + 6.0 * (direction - along + 0.2 * along)
        assert close(method(asked).denoised, wanted, 1e-4)
        assert float(average.norm()) > 4.0, "nothing is limited"


def test_zero_star_fits_the_unconditional_prediction_first() -> None:
    s = (COND * UNCOND).sum() / UNCOND.square().sum()
    assert close(guide(evaluation(), cfg_zero={}).guided, s * UNCOND + 7.0 * (COND - s * UNCOND))
    assert not guide(evaluation(0), cfg_zero={"zero_steps": 1}).guided.any()
    assert guide(evaluation(1), cfg_zero={"zero_steps": 1}).guided.any()


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("measure", ["ad", "std"])
@pytest.mark.parametrize("start_point", ["mean", "zero"])
def test_dynamic_thresholding_mimics_a_lower_scale(prediction_type: str, measure: str, start_point: str) -> None:
    asked = evaluation(plan=sampling(prediction_type=prediction_type))
    values = {"mimic_scale": 3.0, "percentile": 0.95, "phi": 0.8, "measure": measure, "start_point": start_point}
    found = guide(asked, dynamic_thresholding=values).denoised
    x0, x0_uncond = (asked.level.denoised(asked.x, one) for one in (COND, UNCOND))
    for channel in range(4):
        cfg, mimic = ((x0_uncond + scale * (x0 - x0_uncond))[0, channel] for scale in (7.0, 3.0))
        away, mimic_away = cfg - cfg.mean(), mimic - mimic.mean()
        if measure == "std":
            has, wants = away.std(), mimic_away.std()
        else:
            has, wants = away.abs().flatten().quantile(0.95), mimic_away.abs().max()
        if start_point == "zero":
            thresholded = cfg * wants / has
        elif measure == "std":
            thresholded = cfg.mean() + away * wants / has
        else:
            largest = max(has, wants)
            thresholded = cfg.mean() + away.clamp(-largest, largest) / largest * wants
        assert close(found[0, channel], 0.8 * thresholded + 0.2 * cfg, 1e-4)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_epsilon_scaling_divides_the_noise(sampler: str, prediction_type: str) -> None:
    plan = sampling(sampler, prediction_type=prediction_type)
    asked = evaluation(plan=plan)
    x, alpha, sigma = asked.x, asked.level.alpha, asked.level.sigma
    epsilon = (x - alpha * classifier_free(asked).denoised) / sigma
    scaled = guide(asked, epsilon_scaling={"scale": 1.02})
    assert close(scaled.denoised, (x - sigma * epsilon / 1.02) / alpha, 1e-4)
    if prediction_type == "epsilon":
        assert close(scaled.guided, CFG / 1.02)
    without_signal = replace(asked.level, alpha=torch.tensor(2.0**-12), sigma=torch.tensor(1.0))
    assert torch.equal(guide(replace(asked, level=without_signal), epsilon_scaling={}).guided, CFG)


def test_composed_prompts_are_one_condition_for_what_corrects() -> None:
    other = COND.flip(-1)
    conditions = Conditions(torch.zeros(3, 2, 3), weights=(1.0, 0.5), is_guided=True)
    asked = evaluation(conditions=conditions, predict=lambda *_: torch.cat([UNCOND, COND, other]))
    cond = UNCOND + (COND - UNCOND) + 0.5 * (other - UNCOND)
    cfg = UNCOND + 7.0 * (cond - UNCOND)
    assert close(guide(asked, cfg_rescale={"phi": 1.0}).guided, cfg * cond.std() / cfg.std())


# What sets the scale of a step, or the noise level


def test_an_interval_costs_one_row_less_outside_of_it() -> None:
    rows: list[int] = []
    plan = sampling()

    def predict(batch: Tensor, *_: object) -> Tensor:
        rows.append(len(batch))
        return torch.cat([UNCOND, COND][-len(batch) :])

    used = (GuidanceMethod(id="cfg_interval", values={"start": 0.2, "end": 0.6}),)
    steps = list(denoise(lambda _: predict, lambda _: GUIDED, plan, NOISE, 7.0, guide=make_guide(used, plan, None)))
    assert rows == [1, 1, 2, 2, 2, 2, 1, 1, 1, 1]
    assert evaluations_per_step(7.0, used, 10) == sum(rows) / 10 == 1.4
    # Kynkäänniemi et al., eq. 5: the weight w within the interval of noise levels, 1 elsewhere.
    x = NOISE * plan.init_noise_sigma
    for step, after in enumerate(steps):
        sigma, sigma_next = plan.sigmas[step], plan.sigmas[step + 1]
        is_within = plan.sigmas[5] <= sigma <= plan.sigmas[2]
        weight = 7.0 if is_within else 1.0
        x = x + (sigma_next - sigma) * (UNCOND + weight * (COND - UNCOND))
        assert close(after.latents, x, 1e-4)


def test_curves_go_from_the_guidance_above_to_the_end() -> None:
    linear, cosine = ({"shape": shape, "end": 2.0, "points": ""} for shape in ("linear", "cosine"))
    assert [curve_guidance(8.0, linear, share) for share in (0, 0.25, 1)] == [8.0, 6.5, 2.0]
    assert [round(curve_guidance(8.0, cosine, share), 3) for share in (0, 0.25, 0.5, 1)] == [8.0, 7.121, 5.0, 2.0]
    points = {"shape": "points", "end": 1.0, "points": "0.2:4, 0.6:8, 0.8:1"}
    assert [round(curve_guidance(3.0, points, share), 9) for share in (0, 0.2, 0.4, 0.7, 1)] == [4, 4, 6, 4.5, 1]
    assert close(guide(evaluation(9), guidance_curve={"end": 2.0}).guided, UNCOND + 2.0 * (COND - UNCOND))
    used = (GuidanceMethod(id="guidance_curve", values={"shape": "points", "points": "0:1, 1:7"}),)
    assert [guidance_at(1.0, used, step, 3) for step in range(3)] == [1.0, 4.0, 7.0]


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_the_model_is_told_of_less_noise_in_the_middle(sampler: str) -> None:
    """Of both spaces: sigma * (1 - 0.1 * amount * guidance) for scale, timestep and estimate."""
    plan = sampling(sampler)
    sigma = plan.sigmas[4]
    alpha = 1 / (1 + sigma**2) ** 0.5 if sampler == "dpmpp_2m" else 1.0
    seen: list[tuple[Tensor, float]] = []

    def predict(x: Tensor, level: Any, conditions: Conditions) -> Tensor:
        seen.append((x / level.scale, float(level.timestep)))
        return two(x, level, conditions)

    asked = evaluation(plan=plan, x=LATENTS * sigma * alpha, predict=predict)
    values = {"amount": 0.3, "smooth": "straight", "start": 0.0, "end": 1.0, "bias": 4 / 9}
    x0 = guide(asked, detail=values).denoised
    lower = sigma * (1 - 0.1 * 0.3 * 7.0)
    ((scaled, timestep),) = seen
    assert close(scaled, LATENTS * sigma / (1 + lower**2) ** 0.5)
    assert timestep == float(plan.level(lower).timestep) < float(plan.level(sigma).timestep)
    assert close(x0, LATENTS * sigma - lower * CFG, 1e-4)


def test_the_amount_rises_to_its_peak_and_falls() -> None:
    plain = {"amount": 1.0, "start": 0.2, "end": 0.8, "bias": 0.5, "exponent": 1.0}
    rest = {"start_offset": 0.0, "end_offset": 0.0, "fade": 0.0, "smooth": "straight"}

    def course(**changes: Any) -> list[float]:
        detail = Detail(**{**plain, **rest, **changes})
        return [round(detail.amount_at(step, 11), 4) for step in range(11)]

    rising = [0, 1 / 3, 2 / 3, 1.0]
    assert course() == [0, 0, *(round(one, 4) for one in (*rising, *rising[2::-1])), 0, 0]
    assert course(exponent=2.0)[4] == round((2 / 3) ** 2, 4)
    assert course(smooth="smooth")[4] == round((1 - math.cos(math.pi * 2 / 3)) / 2, 4)
    assert course(start_offset=-0.2, end_offset=0.4)[:3] == [-0.2] * 3
    assert course(start_offset=-0.2, end_offset=0.4)[8:] == [0.4] * 3
    assert course(fade=0.25)[5] == 0.75
    assert course(start=0.5, end=0.5)[5] == 1.0


# What changes the U-Net


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(5)
    return tiny._unet(32).eval()


@pytest.fixture(scope="module")
def embeds() -> Tensor:
    return torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(6))


@pytest.fixture
def real(unet: Any, embeds: Tensor) -> Evaluation:
    """An evaluation of a real, tiny U-Net, of latents that are not square: their middle is 2 × 3."""
    x = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(7))
    model = predict_with(lambda _: unet, torch.float32)

    def predict(x: Tensor, level: Any, conditions: Conditions) -> Tensor:
        batch = torch.cat([x / level.scale] * len(conditions.prompt_embeds))
        with torch.inference_mode():
            return model(batch, level.timestep, conditions, None)

    return evaluation(x=x * 3, conditions=Conditions(embeds, is_guided=True), predict=predict)


def middle(unet: Any) -> Any:
    return unet.mid_block.attentions[0].transformer_blocks[0].attn1


@pytest.fixture
def disturbed(unet: Any) -> Any:
    """Evaluate the prompt with a self-attention in the middle that is written out in the test."""

    class Disturbed:
        def __init__(self, weigh: Callable[[Tensor, Tensor, Any], Tensor]) -> None:
            self.weigh = weigh

        def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            heads = []
            width = hidden_states.shape[-1] // attn.heads
            q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
            for head in range(attn.heads):
                part = slice(head * width, (head + 1) * width)
                heads.append(self.weigh(q[..., part], k[..., part], attn) @ v[..., part])
            return attn.to_out[0](torch.cat(heads, dim=-1))

    def run(real: Evaluation, weigh: Callable[[Tensor, Tensor, Any], Tensor], conditions: Conditions) -> Tensor:
        original = middle(unet).processor
        middle(unet).processor = Disturbed(weigh)
        try:
            return real.predict(real.x, real.level, conditions)
        finally:
            middle(unet).processor = original

    return run


def softmaxed(q: Tensor, k: Tensor, attn: Any) -> Tensor:
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)


def test_the_test_writes_attention_as_the_model_has_it(real: Evaluation, disturbed: Any) -> None:
    assert close(disturbed(real, softmaxed, real.conditions), real.predict(real.x, real.level, real.conditions))


def test_perturbed_attention_sees_itself_alone(real: Evaluation, unet: Any, disturbed: Any) -> None:
    plain = classifier_free(real)
    perturbed = disturbed(real, lambda q, k, attn: torch.eye(q.shape[1]), real.conditions.prompts())
    found = guide(real, unet, pag={"scale": 2.5}).guided
    assert close(found, plain.guided + 2.5 * (plain.each[1:] - perturbed))
    assert (found - plain.guided).abs().max() > 1e-4
    faded = guide(real, unet, pag={"scale": 2.5, "adaptive": 0.002}).guided
    scale = 2.5 - 0.002 * (1000 - float(real.level.timestep))
    assert 0 < scale < 2.5 and close(faded, plain.guided + scale * (plain.each[1:] - perturbed))


@pytest.mark.parametrize("sigma", [0.7, 9999.0])
def test_smoothed_energy_blurs_the_queries(real: Evaluation, unet: Any, disturbed: Any, sigma: float) -> None:
    def weigh(q: Tensor, k: Tensor, attn: Any) -> Tensor:
        places = q.mT.unflatten(2, (2, 3))
        if sigma == 9999.0:
            blurred = places.mean(dim=(2, 3), keepdim=True).expand_as(places)
        else:
            blurred = torch.zeros_like(places)
            for row in range(2):
                for column in range(3):
                    total = 0.0
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            weight = math.exp(-(dx * dx + dy * dy) / (2 * sigma**2))
                            # Reflected at the edges.
                            at = (row + dy) % 2 if row + dy in (-1, 2) else row + dy
                            across = {-1: 1, 3: 1}.get(column + dx, column + dx)
                            blurred[:, :, row, column] += weight * places[:, :, at, across]
                            total += weight
                    blurred[:, :, row, column] /= total
        return softmaxed(blurred.flatten(2).mT, k, attn)

    plain = classifier_free(real)
    smoothed = disturbed(real, weigh, real.conditions.prompts())
    found = guide(real, unet, seg={"scale": 2.5, "blur": sigma}).guided
    assert close(found, plain.guided + 2.5 * (plain.each[1:] - smoothed), 1e-4)
    assert (smoothed - plain.each[1:]).abs().max() > 1e-5


@pytest.mark.parametrize("scale", [7.0, 1.0])
def test_self_attention_guidance_blurs_where_the_model_looks(
    real: Evaluation, unet: Any, disturbed: Any, scale: float
) -> None:
    real = replace(real, guidance=scale)
    maps: list[Tensor] = []

    def weigh(q: Tensor, k: Tensor, attn: Any) -> Tensor:
        maps.append(softmaxed(q, k, attn))
        return maps[-1]

    is_guided = scale > 1
    conditions = real.conditions if is_guided else real.conditions.prompts()
    each = disturbed(real, weigh, conditions)
    received = torch.stack(maps).mean(0).sum(1)[0]  # of the first entry, by place
    assert 0 < (received > 1).sum() < 6, "the mask is trivial"
    mask = (received > 1).float().view(1, 1, 2, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    own, sigma = each[:1], real.sigma
    x0 = real.x - sigma * own
    degraded = gaussian_blur(x0, 1.0, 9) * mask + x0 * (1 - mask) + sigma * own
    row = Conditions(real.conditions.prompt_embeds[:1] if is_guided else real.conditions.prompt_embeds[1:])
    away = real.predict(degraded, real.level, row)
    found = guide(real, unet, sag={"scale": 0.75}).guided
    plain = each[:1] + 7.0 * (each[1:] - each[:1]) if is_guided else own
    assert close(found, plain + 0.75 * (own - away), 1e-4) and (own - away).abs().max() > 1e-4


@pytest.mark.parametrize("scale", [7.0, 1.0])
def test_normalized_attention_guides_within_the_cross_attention(real: Evaluation, unet: Any, scale: float) -> None:
    real = replace(real, guidance=scale)
    negative = real.conditions.prompt_embeds[:1]
    rows = 2 if scale > 1 else 1

    class Written:
        """Equations 7 to 10, token by token."""

        def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
            def attended(context: Tensor) -> Tensor:
                heads = []
                q, k, v = attn.to_q(hidden_states[-1:]), attn.to_k(context), attn.to_v(context)
                width = q.shape[-1] // attn.heads
                for head in range(attn.heads):
                    part = slice(head * width, (head + 1) * width)
                    heads.append(softmaxed(q[..., part], k[..., part], attn) @ v[..., part])
                return torch.cat(heads, -1)

            positive, away = attended(encoder_hidden_states[-1:]), attended(negative)
            guided = 4.0 * positive - 3.0 * away
            for token in range(guided.shape[1]):
                ratio = guided[0, token].abs().sum() / positive[0, token].abs().sum()
                if ratio > 1.5:
                    limited.append(token)
                    guided[0, token] *= 1.5 / ratio
            out = attn.to_out[0](0.4 * guided + 0.6 * positive)
            if rows == 2:
                out = torch.cat([attn.to_out[0](attended_plain(attn, hidden_states, encoder_hidden_states)), out])
            return out

    def attended_plain(attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        q, k, v = (
            one.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for one in (
                attn.to_q(hidden_states[:1]),
                attn.to_k(encoder_hidden_states[:1]),
                attn.to_v(encoder_hidden_states[:1]),
            )
        )
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    limited: list[int] = []
    crossing = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    originals = [module.processor for module in crossing]
    for module in crossing:
        module.processor = Written()
    conditions = real.conditions if scale > 1 else real.conditions.prompts()
    wanted = conditions.apply_cfg(real.predict(real.x, real.level, conditions), scale)
    for module, original in zip(crossing, originals, strict=True):
        module.processor = original
    found = guide(real, unet, nag={"scale": 4.0, "tau": 1.5, "alpha": 0.4})
    assert len(found.each) == rows and limited
    assert close(found.guided, wanted, 1e-4)
    assert not close(found.guided, classifier_free(real).guided, 1e-4)


def test_freeu_weighs_backbone_and_skips(real: Evaluation, unet: Any) -> None:
    """Eq. 4 to 7 at the U-Net's two deepest decoder blocks, by diffusers' own function (parity: tests/parity)."""
    plain = classifier_free(real).guided
    found = guide(real, unet, freeu={}).guided
    assert found.isfinite().all() and not close(found, plain, 1e-3)
    assert torch.equal(classifier_free(real).guided, plain)


# All of them


@pytest.mark.parametrize("method", WITH_MAKER, ids=lambda method: method.id)
def test_a_rows_parameters_are_its_classs(method: Method, unet: Any) -> None:
    used = [GuidanceMethod(id=method.id, values={"shape": "linear"} if method.id == "guidance_curve" else {})]
    made = make_guide(used, sampling(), unet)
    assert made is not classifier_free
    instance = made.func  # type: ignore[attr-defined]
    assert {name: getattr(instance, name) for name in method.values({})} == method.values(used[0].values)


@pytest.mark.parametrize("method", [row for row in WITH_MAKER if row.off], ids=lambda method: method.id)
def test_off_is_absent(method: Method) -> None:
    off = [GuidanceMethod(id=method.id, values=dict(method.off))]
    assert make_guide(off, sampling(), None) is classifier_free
    assert evaluations_per_step(7.0, off, 10) == evaluations_per_step(7.0, (), 10) == 2


@pytest.mark.parametrize("method", [row for row in WITH_MAKER if row.changes_unet], ids=lambda method: method.id)
def test_the_unet_is_as_before_whatever_happens(method: Method, real: Evaluation, unet: Any) -> None:
    before, plain = dict(unet.attn_processors), classifier_free(real).guided
    changed = guide(real, unet, **{method.id: {}}).guided
    assert not torch.equal(changed, plain)

    for calls in range(1 + method.extra_evaluations):
        left = iter([real.predict] * calls)

        def failing(x: Tensor, level: Any, conditions: Conditions, left: Any = left) -> Tensor:
            for predict in left:
                return predict(x, level, conditions)
            raise RuntimeError("as asked")

        with pytest.raises(RuntimeError, match="as asked"):
            guide(replace(real, predict=failing), unet, **{method.id: {}})
        assert all(unet.attn_processors[name] is processor for name, processor in before.items())
    assert torch.equal(classifier_free(real).guided, plain)


def test_all_together_act_in_their_order(real: Evaluation, unet: Any) -> None:
    """What is given first in a recipe makes no difference, and what corrects comes after what adds."""
    together = {"cfg_rescale": {"phi": 1.0}, "pag": {"scale": 3.0}, "sag": {}, "nag": {}, "freeu": {}, "detail": {}}
    backwards = dict(reversed(together.items()))
    one, other = guide(real, unet, **together), guide(real, unet, **backwards)
    assert torch.equal(one.guided, other.guided)
    assert close(one.guided.std(), one.cond.std())


def test_evaluations_of_a_method_have_controls_that_know_whose_rows_they_are() -> None:
    plan, seen = sampling(steps=2), []
    conditions = Conditions(torch.zeros(2, 2, 3), is_guided=True)

    def controls(batch: Tensor, t: Tensor, conditions: Conditions, span: object) -> ControlResiduals | None:
        seen.append((len(batch), len(batch) - len(conditions.weights)))
        return None

    def away(asked: Evaluation) -> Prediction:
        asked.predict(asked.x, asked.level, asked.conditions.prompts())
        asked.predict(asked.x, asked.level, asked.conditions.uncond())
        return classifier_free(asked)

    def model(batch: Tensor, *_: object) -> Tensor:
        return torch.zeros_like(batch)

    list(
        denoise(
            lambda _: model,
            lambda _: conditions,
            plan,
            NOISE,
            7.0,
            controls=controls,
            guide=away,
        )
    )
    assert seen == [(1, 0), (1, 1), (2, 1)] * 2


def test_what_the_model_predicts_decides_what_goes_with_it() -> None:
    flow = replace(sampling(), prediction_type="flow_prediction")
    with pytest.raises(InvalidRecipe, match="Epsilon scaling does not go with a model that predicts “flow_prediction”"):
        make_guide([GuidanceMethod(id="epsilon_scaling")], flow, None)
    with pytest.raises(InvalidRecipe, match="There is no guidance method “mood”"):
        make_guide([GuidanceMethod(id="mood")], flow, None)
