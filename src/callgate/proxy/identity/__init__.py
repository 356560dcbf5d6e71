"""Who calls: digest, addresses and names, callers' numbers; and the registrar for phones and PBXes that register."""
