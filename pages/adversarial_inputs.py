"""Adversarial inputs: does an explanation help to find inputs on which the model errs?"""

from ui.page import method_page

method_page("adversarial_inputs")
