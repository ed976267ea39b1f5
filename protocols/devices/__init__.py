"""Wire codecs, shared by gateway (decode) and firmware_sim (encode)."""
