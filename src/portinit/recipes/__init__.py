"""Which parameter gets what: recipes as data, and ready ones for frameworks and families."""

from portinit.recipes.ready import flax_defaults as flax_defaults
from portinit.recipes.ready import gpt2 as gpt2
from portinit.recipes.ready import packed_experts as packed_experts
from portinit.recipes.ready import resnet as resnet
from portinit.recipes.ready import torch_defaults as torch_defaults
from portinit.recipes.ready import vit as vit
from portinit.recipes.ready_recurrent import chrono_lstm as chrono_lstm
from portinit.recipes.ready_recurrent import gru as gru
from portinit.recipes.ready_recurrent import irnn as irnn
from portinit.recipes.ready_recurrent import lstm as lstm
from portinit.recipes.ready_recurrent import rnn as rnn
from portinit.recipes.ready_schemes import adaln_zero as adaln_zero
from portinit.recipes.ready_schemes import class_prior as class_prior
from portinit.recipes.ready_schemes import deepnorm as deepnorm
from portinit.recipes.ready_schemes import fixup as fixup
from portinit.recipes.ready_schemes import gpt_neox as gpt_neox
from portinit.recipes.ready_schemes import layer_scale as layer_scale
from portinit.recipes.ready_schemes import lora as lora
from portinit.recipes.ready_schemes import mup as mup
from portinit.recipes.ready_schemes import rezero as rezero
from portinit.recipes.ready_schemes import switch_router as switch_router
from portinit.recipes.ready_schemes import t_fixup as t_fixup
