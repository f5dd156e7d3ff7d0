"""From a trained Keras model to a bundle: conversion, parity, and a folder written whole or not at all."""

from fer_deploy.exporting.exporter import export_bundle

__all__ = ["export_bundle"]
