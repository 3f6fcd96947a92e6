"""Weight files: safetensors, NumPy's .npz and torch.save's, by the names of their tensors.

Nothing that a file holds is executed: .npz files are read without pickles, torch.save's with
``weights_only=True``. Names, shapes and dtypes come from headers; a tensor is read when asked for.
"""

from portinit.arrays.weight_files.files import StoredTensor as StoredTensor
from portinit.arrays.weight_files.files import read_tensor as read_tensor
from portinit.arrays.weight_files.files import shared_names as shared_names
from portinit.arrays.weight_files.files import stored_tensor as stored_tensor
from portinit.arrays.weight_files.files import stored_tensors as stored_tensors
from portinit.arrays.weight_files.files import verify_tensor as verify_tensor
