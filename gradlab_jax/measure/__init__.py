"""What is measured of one model on one batch: activations, gradient flow, sensitivity, curvature, origins of NaN.

Nothing that goes on from step to step.
Imports trees and model.
"""
