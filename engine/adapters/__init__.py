"""What conditions the U-Net: prompt encoders and textual inversion, ControlNet, IP-Adapter, hypernetworks, InstructPix2Pix."""
