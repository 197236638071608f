"""Photometric redshifts: how far is this galaxy?"""
