"""The one part that pyproject.toml can't say: the C scanner is optional. Without a compiler the program works the
same, slower."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("callgate.sip._scan", ["src/callgate/sip/_scan.c"], optional=True)])
