"""Exceptions with a constructor as OpenStack services have it: a template, keyword arguments, a code."""


class ShopException(Exception):
    message = 'Something is wrong in the shop.'
    code = 500

    def __init__(self, message=None, **kwargs):
        self.kwargs = dict(kwargs)
        self.kwargs.setdefault('code', self.code)
        if not message:
            message = self.message % kwargs
        if message.endswith('..') and not message.endswith('...'):
            message = message[:-1]
        self.msg = message
        super().__init__(message)


class SoldOut(ShopException):
    message = 'Sold out: %(reason)s.'
    code = 409


class Closed(ShopException):
    message = 'The shop is closed.'
