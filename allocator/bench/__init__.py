"""A loaded model under an allocation: checked, banked, quantized, scored."""
