"""The penalty in ``transformers.Trainer`` and TRL's ``SFTTrainer``."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from data_prep.torchvision_guard import ensure_torchvision

if importlib.util.find_spec("peft") is None:
    pytest.skip("needs peft: the extra `peft`", allow_module_level=True)
ensure_torchvision()
import transformers  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from resora import ReSoRA  # noqa: E402
from resora.integrations.transformers import ReSoRAMixin  # noqa: E402

LENGTH = 6


class Penalised(ReSoRAMixin, Trainer):
    pass


def model(kind="llama"):
    """A tiny network with LoRA on q and v, whose B is not zero."""
    torch.manual_seed(0)
    if kind == "llama":
        config = transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            pad_token_id=0,
        )
        base, targets = transformers.LlamaForCausalLM(config), ["q_proj", "v_proj"]
    else:
        config = transformers.BertConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        base, targets = transformers.BertForSequenceClassification(config), ["query", "value"]
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=targets, lora_dropout=0.0))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return adapted.double()  # so that only what is really different is different


def rows(count, kind="llama", *, different=True):
    """Padded rows; all of them different, or two that take turns."""
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randint(1, 50, (count if different else 2, LENGTH), generator=generator)
    found = []
    for number in range(count):
        tokens = drawn[number % len(drawn)].clone()
        mask = (torch.arange(LENGTH) < LENGTH - number % 2 * 3).long()
        labels = (
            torch.where(mask.bool(), tokens, -100) if kind == "llama" else torch.tensor(number % 2)
        )
        found.append({"input_ids": tokens, "attention_mask": mask, "labels": labels})
    return found


def arguments(folder, **options):
    plain = {
        "per_device_train_batch_size": 2,
        "max_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }
    return TrainingArguments(output_dir=str(folder), **plain | options)


class Gradients(TrainerCallback):
    """Keeps the gradients of the first step of the optimizer."""

    def __init__(self):
        self.kept = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.kept:
            self.kept = {
                n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
            }


def gradients(folder, kind, data, accumulation, trainer_class=Penalised, resora=None, **options):
    seen = Gradients()
    trainer = trainer_class(
        model=model(kind),
        args=arguments(
            folder,
            per_device_train_batch_size=len(data) // accumulation,
            gradient_accumulation_steps=accumulation,
            **options,
        ),
        train_dataset=data,
        callbacks=[seen],
        **({"resora": resora} if resora else {}),
    )
    trainer.train()
    return seen.kept, trainer


# Without the penalty, Trainer 5.23 multiplies BERT's own loss by the number of micro-batches (its forward
# takes keyword arguments and ignores num_items_in_batch), and Llama's not. The penalty is right in both.
@pytest.mark.parametrize(
    ("kind", "space"),
    [
        ("llama", "feature"),
        pytest.param("bert", "weight", marks=pytest.mark.slow),
        pytest.param("llama", "weight", marks=pytest.mark.slow),
        pytest.param("bert", "feature", marks=pytest.mark.slow),
    ],
)
def test_accumulation_does_not_multiply_the_penalty(tmp_path, kind, space):
    # Of activations, rows take turns, so each micro-batch has the penalty of the batch.
    data, resora = rows(8, kind, different=space == "weight"), {"weight": 5.0, "space": space}

    def of_penalty(accumulation):
        with_it, _ = gradients(tmp_path, kind, data, accumulation, resora=resora)
        without, _ = gradients(tmp_path, kind, data, accumulation, Trainer)
        return {name: gradient - without[name] for name, gradient in with_it.items()}

    whole, parts = of_penalty(1), of_penalty(4)
    assert max(g.abs().max() for g in whole.values()) > 1e-3
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-6, atol=1e-9)


def test_the_gradient_is_that_of_a_loop_written_by_hand(tmp_path):
    data = rows(4)
    found, _ = gradients(tmp_path, "llama", data, 1, resora={"weight": 2.0})
    by_hand = model().train()
    regularizer = ReSoRA(by_hand, weight=2.0)
    batch = {name: torch.stack([row[name] for row in data]) for name in data[0]}
    (by_hand(**batch).loss + regularizer(mask=batch["attention_mask"])).backward()
    for name, parameter in by_hand.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-9)


def test_evaluation_has_no_penalty_and_the_log_has_both_values(tmp_path):
    data = rows(8)
    trainer = Penalised(
        model=model(),
        args=arguments(tmp_path, max_steps=4, eval_strategy="steps", eval_steps=2, logging_steps=2),
        train_dataset=data,
        eval_dataset=data,
        resora={"weight": 3.0},
    )
    trainer.train()
    history = trainer.state.log_history
    logged = [entry for entry in history if "loss" in entry]
    assert len(logged) == 2
    assert all(entry["penalty"] > 0 and 0 < entry["redundancy"] < 1 for entry in logged)
    plain = Trainer(model=trainer.model, args=trainer.args, eval_dataset=data)
    evaluated = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert evaluated[-1] == pytest.approx(plain.evaluate()["eval_loss"], rel=1e-6)


def test_a_resumed_run_goes_on_with_the_warm_up(tmp_path):
    def trainer(steps):
        return Penalised(
            model=model(),
            args=arguments(
                tmp_path, max_steps=steps, save_strategy="steps", save_steps=2, logging_steps=1
            ),
            train_dataset=rows(8),
            resora={"weight": 1.0, "warmup_steps": 8},
        )

    whole = trainer(4)
    whole.train()
    assert whole.regularizer.current_weight == pytest.approx(4 / 8)
    resumed = trainer(4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.regularizer.current_weight == pytest.approx(4 / 8)
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    penalties = [entry["penalty"] for entry in state["log_history"] if "penalty" in entry]
    assert penalties == pytest.approx(
        [entry["penalty"] for entry in whole.state.log_history if "penalty" in entry], rel=1e-4
    )


def test_several_gpus_in_one_process_are_refused(tmp_path):
    class Two(TrainingArguments):
        n_gpu = 2

    args = arguments(tmp_path)
    args.__class__ = Two
    with pytest.raises(ValueError, match="one process a GPU"):
        Penalised(model=model(), args=args, train_dataset=rows(2), resora={"weight": 1.0})


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs trl")
def test_sft_trainer_with_padding_and_accumulation(tmp_path):
    from trl import SFTConfig, SFTTrainer

    class PenalisedSFT(ReSoRAMixin, SFTTrainer):
        pass

    tokenizer = small_tokenizer(tmp_path)
    from datasets import Dataset

    texts = ["a b c d e f", "a b"] * 4
    found = {}
    for accumulation in (1, 4):
        seen = Gradients()
        trainer = PenalisedSFT(
            model=model(),
            args=SFTConfig(
                output_dir=str(tmp_path),
                per_device_train_batch_size=8 // accumulation,
                gradient_accumulation_steps=accumulation,
                max_steps=1,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                max_grad_norm=0.0,
                logging_steps=1,
                save_strategy="no",
                disable_tqdm=True,
                train_sampling_strategy="sequential",
            ),
            train_dataset=Dataset.from_dict({"text": texts}),
            processing_class=tokenizer,
            callbacks=[seen],
            resora={"weight": 5.0},
        )
        trainer.train()
        found[accumulation] = seen.kept
        assert trainer.state.log_history[0]["penalty"] > 0
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[4][name], gradient, rtol=1e-6, atol=1e-9)


def small_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(["<pad>", "<eos>", *"abcdef"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
    )
