"""Published models: each a function that wires populations and projections into a `Network`."""

from pcsim.models import published, weights
from pcsim.models.blt import blt, blt_b, blt_bf, blt_bk, blt_bl, blt_bt
from pcsim.models.cells import CELLS, MEDIAN, SHALLOW, ReciprocalCell, Site
from pcsim.models.convrnn import Layer, convrnn, convrnn_intermediate, convrnn_shallow
from pcsim.models.cornet import cornet_r, cornet_rt, cornet_s, cornet_z
from pcsim.models.grcnn import grcnn
from pcsim.models.hopfield import hebbian, hopfield, hopfield_continuous, hopfield_modern, random_patterns
from pcsim.models.matching import matched
from pcsim.models.multi_state import multi_state, shared_resnet
from pcsim.models.pcn_global import pcn_global
from pcsim.models.pcn_local import Architecture, pcn_local
from pcsim.models.predictive_coding import predictive_coding
from pcsim.models.prednet import prednet, prednet_kitti
from pcsim.models.rcnn import leaky_rcnn, rcnn
from pcsim.models.rcnn_sat import rcnn_sat_b, rcnn_sat_bd, rcnn_sat_bf, rcnn_sat_bk, rcnn_sat_bl
from pcsim.models.registry import available, paper, register
from pcsim.models.resnet import resnet18, resnet34
from pcsim.models.retrofit import retrofit
from pcsim.models.sequence import convlstm, subconvlstm, sublstm
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
    "available",
    "blt",
    "blt_b",
    "blt_bf",
    "blt_bk",
    "blt_bl",
    "blt_bt",
    "build",
    "convlstm",
    "convrnn",
    "convrnn_intermediate",
    "convrnn_shallow",
    "cornet_r",
    "cornet_rt",
    "cornet_s",
    "cornet_z",
    "grcnn",
    "hebbian",
    "hopfield",
    "hopfield_continuous",
    "hopfield_modern",
    "leaky_rcnn",
    "matched",
    "multi_state",
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
    "shared_resnet",
    "subconvlstm",
    "sublstm",
    "weights",
]
