"""Listens: devices over BLE and serial, to durable blocks, to Sparkplug B over MQTT."""
