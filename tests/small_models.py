"""Importing it registers MLD, MDM, a reward and TMR that read HumanML3D's features and are tiny otherwise."""

from dataclasses import replace

from methods import register_backbone, register_reward
from methods.backbones import mdm, mld
from methods.rewards import spm, tmr

MLD, SPM, TMR = (replace(config, features=263) for config in (mld.TINY, spm.TINY, tmr.TINY))

register_reward("spm-small", spm.entry(SPM, sentences=MLD.text_width))
register_reward("tmr-small", tmr.entry(TMR))
register_backbone("mld-small", mld.entry(MLD, reward="spm-small"))
register_backbone("mdm-small", mdm.entry(replace(mdm.TINY, features=263), reward="spm-small"))
