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
