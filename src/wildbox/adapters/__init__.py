"""A rule in place of the classification loss and scores of other libraries' models: one file each.

    torchvision             use_rule(model, rule)      Faster, Mask and Keypoint R-CNN
    image_classification    ImageRule(rule)            any classifier of whole images
    transformers            use_rule(model, rule)      DETR, Table Transformer, YOLOS, Conditional and Deformable DETR
    detectron2              use_rule(model, rule)      the box predictors of R-CNNs
    mmdetection             RuleLoss(rule)             the `loss_cls` of box heads

Importing this imports none of those libraries.
"""
