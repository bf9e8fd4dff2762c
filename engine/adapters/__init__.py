"""What conditions the U-Net.

Prompt encoders and textual inversion, ControlNet, IP-Adapter, hypernetworks, InstructPix2Pix.
"""
