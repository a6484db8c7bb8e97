"""`lorikeet doctor`: is this deployment fit to serve, and if not, on which layer is it broken?"""
