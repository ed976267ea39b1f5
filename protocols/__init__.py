"""What is said on every wire: the record that flows, device codecs, Sparkplug B and clinical protocols."""
