"""Published models. Each is a function that builds a `Network` from populations and projections."""

from typing import TYPE_CHECKING

from pcsim.core.renamed import names_of
from pcsim.models import published, weights
from pcsim.models._attention import attend
from pcsim.models._blt import blt, blt_b, blt_bf, blt_bk, blt_bl, blt_bt
from pcsim.models._circuits import ei_rcnn, interneuron_area, interneurons, ssn, wilson_cowan
from pcsim.models._convrnn import Layer, convrnn, convrnn_intermediate, convrnn_shallow
from pcsim.models._cornet import cornet_r, cornet_rt, cornet_s, cornet_z
from pcsim.models._cutting import cut, node_names
from pcsim.models._decisions import with_decision, with_evidence, with_noise
from pcsim.models._encoder_forecaster import convlstm, subconvlstm, sublstm
from pcsim.models._grcnn import grcnn
from pcsim.models._hgru import hgru
from pcsim.models._hopfield import hebbian, hopfield, hopfield_continuous, hopfield_modern, random_patterns
from pcsim.models._laminar import laminar, laminar_hierarchy
from pcsim.models._memory import bump_attractor, ring_weights
from pcsim.models._multi_state import multi_state, shared_resnet
from pcsim.models._normalisation import (
    delayed_normalisation,
    dynamic_synapses,
    intrinsic_suppression,
    organics,
    synapses,
)
from pcsim.models._pcn_global import pcn_global
from pcsim.models._pcn_local import Architecture, pcn_local
from pcsim.models._predictive_coding import predictive_coding
from pcsim.models._prednet import prednet, prednet_kitti
from pcsim.models._rcnn import leaky_rcnn, rcnn
from pcsim.models._rcnn_sat import rcnn_sat_b, rcnn_sat_bd, rcnn_sat_bf, rcnn_sat_bk, rcnn_sat_bl
from pcsim.models._resnet import resnet18, resnet34
from pcsim.models._retrofit import retrofit
from pcsim.models._routing import shifter, two_streams
from pcsim.models.cells import CELLS, MEDIAN, SHALLOW, ReciprocalCell, Site
from pcsim.models.matching import matched
from pcsim.models.registry import available, paper, register
from pcsim.models.weights import build
from pcsim.rules.reciprocal import Gate

__all__ = [
    "CELLS",
    "MEDIAN",
    "SHALLOW",
    "Architecture",
    "Gate",
    "Layer",
    "ReciprocalCell",
    "Site",
    "attend",
    "available",
    "blt",
    "blt_b",
    "blt_bf",
    "blt_bk",
    "blt_bl",
    "blt_bt",
    "build",
    "bump_attractor",
    "convlstm",
    "convrnn",
    "convrnn_intermediate",
    "convrnn_shallow",
    "cornet_r",
    "cornet_rt",
    "cornet_s",
    "cornet_z",
    "cut",
    "delayed_normalisation",
    "dynamic_synapses",
    "ei_rcnn",
    "grcnn",
    "hebbian",
    "hgru",
    "hopfield",
    "hopfield_continuous",
    "hopfield_modern",
    "interneuron_area",
    "interneurons",
    "intrinsic_suppression",
    "laminar",
    "laminar_hierarchy",
    "leaky_rcnn",
    "matched",
    "multi_state",
    "node_names",
    "organics",
    "paper",
    "pcn_global",
    "pcn_local",
    "predictive_coding",
    "prednet",
    "prednet_kitti",
    "published",
    "random_patterns",
    "rcnn",
    "rcnn_sat_b",
    "rcnn_sat_bd",
    "rcnn_sat_bf",
    "rcnn_sat_bk",
    "rcnn_sat_bl",
    "register",
    "resnet18",
    "resnet34",
    "retrofit",
    "ring_weights",
    "shared_resnet",
    "shifter",
    "ssn",
    "subconvlstm",
    "sublstm",
    "synapses",
    "two_streams",
    "weights",
    "wilson_cowan",
    "with_decision",
    "with_evidence",
    "with_noise",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
